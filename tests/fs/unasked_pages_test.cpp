// What small reads leave over, and who serves it.
#include "fs/unasked_pages.h"

#include <gmock/gmock.h>

#include <atomic>
#include <future>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "records.h"

namespace puzzlefs::fs {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using Range = FileRange;
using Ranges = std::vector<Range>;

constexpr std::uint64_t kPage = 4096;

/// A file of whole pages, of pieces that begin and end within pages, and of a last page in part.
class LeftoverTest : public testing::Test {
 protected:
  Ranges of(std::uint64_t offset, std::uint64_t size) const {
    const auto leftover = leftover_of(file_, offset, size);
    return leftover ? leftover->ranges : Ranges{};
  }

  static constexpr std::uint64_t kFirst = 8 * kPage;
  static constexpr std::uint64_t kSecond = 8 * kPage + 100;
  static constexpr std::uint64_t kThird = 4 * kPage;
  static constexpr std::uint64_t kSize = kFirst + kSecond + kThird;
  const format::Digest chunk_ = format::sha256(as_bytes("c"));
  const Bytes blob_ = test::one_layer({test::file(
      1, {{chunk_, 50, kFirst, false}, {chunk_, 0, kSecond, true}, {chunk_, 7, kThird, false}})});
  const format::Metadata metadata_{blob_};
  const OpenFile file_{metadata_.get(format::kRootInode)};
};

TEST_F(LeftoverTest, IsWhatLiesBeforeAndAfterInThePiece) {
  EXPECT_THAT(of(2 * kPage, kPage), ElementsAre(Range{0, 2 * kPage}, Range{3 * kPage, 8 * kPage}));
  EXPECT_THAT(of(7 * kPage, kPage), ElementsAre(Range{0, 7 * kPage}));
}

TEST_F(LeftoverTest, TellsTheWholePiece) {
  const auto leftover = leftover_of(file_, 9 * kPage, kPage);
  ASSERT_TRUE(leftover);
  EXPECT_EQ(leftover->number, format::kRootInode);
  EXPECT_EQ(leftover->from.offset, kFirst);
  EXPECT_EQ(leftover->from.piece, (format::ChunkRef{chunk_, 0, kSecond, true}));
}

TEST_F(LeftoverTest, IsOfWholePagesOfThePieceOnly) {
  EXPECT_THAT(of(14 * kPage, kPage),
              ElementsAre(Range{8 * kPage, 14 * kPage}, Range{15 * kPage, 16 * kPage}));
}

TEST_F(LeftoverTest, LeavesOutTheLastPageInPart) {
  static_assert(kSize % kPage != 0);
  EXPECT_THAT(of(18 * kPage, kPage),
              ElementsAre(Range{17 * kPage, 18 * kPage}, Range{19 * kPage, 20 * kPage}));
}

TEST_F(LeftoverTest, HasNoPageThatWasReadInPart) {
  EXPECT_THAT(of(2 * kPage + 5, 10), ElementsAre(Range{0, 2 * kPage}, Range{3 * kPage, 8 * kPage}));
}

TEST_F(LeftoverTest, IsNothingForWhoeverMayReadSequentially) {
  EXPECT_THAT(of(0, kPage), IsEmpty());
  EXPECT_THAT(of(kFirst, kPage), IsEmpty());
  EXPECT_THAT(of(7 * kPage, 2 * kPage), IsEmpty());
  EXPECT_THAT(of(20 * kPage, kPage), IsEmpty());
  EXPECT_THAT(of(kPage, 5 * kPage), IsEmpty());
}

TEST_F(LeftoverTest, IsNothingOutsideOfTheFile) {
  EXPECT_THAT(of(kSize, kPage), IsEmpty());
  EXPECT_THAT(of(~std::uint64_t{0}, kPage), IsEmpty());
  EXPECT_THAT(of(~std::uint64_t{0} - kPage, kPage), IsEmpty());
}

struct Stored {
  std::uint64_t offset;
  std::string bytes;

  bool operator==(const Stored&) const = default;
};

fetch::ChunkData chunk_of(std::string_view text) {
  const auto bytes = as_bytes(text);
  return std::make_shared<const Bytes>(bytes.begin(), bytes.end());
}

/// Of a piece of two bytes from the second on, at an offset of a file.
Leftover leftover_at(std::uint64_t offset) {
  return {.number = format::kRootInode,
          .from = {.piece = {format::Digest{}, 1, 2, false}, .offset = offset},
          .ranges = {{offset, offset + 1}, {offset + 1, offset + 2}}};
}

/// Serves when the test says so, and stops after the first bytes until it is told to go on.
class UnaskedPagesTest : public testing::Test {
 protected:
  ~UnaskedPagesTest() override {
    pages_.close();
    if (server_.joinable()) server_.join();
  }

  void serve() {
    server_ = std::thread([this] {
      pages_.serve({.has_request = [this] { return requests_ > 0 && requests_-- > 0; },
                    .store =
                        [this](auto, std::uint64_t offset, ByteView bytes) {
                          if (stored_.empty()) {
                            begun_.set_value();
                            go_on_.get_future().wait();
                          }
                          stored_.push_back({offset, std::string(as_text(bytes))});
                          ++count_;
                        }});
    });
  }
  void wait_for(std::size_t count) {
    while (count_ < count) std::this_thread::yield();
  }

  UnaskedPages pages_;
  std::promise<void> begun_;
  std::promise<void> go_on_;
  std::vector<Stored> stored_;
  std::atomic<std::size_t> count_ = 0;
  int requests_ = 0;  // that nobody has taken: one less each time that is asked
  std::thread server_;
};

TEST_F(UnaskedPagesTest, WaitALittleForABusyKernel) {
  requests_ = 3;
  pages_.offer(leftover_at(100), chunk_of("abcd"));
  go_on_.set_value();
  serve();
  wait_for(2);
  EXPECT_EQ(requests_, 0);
}

TEST_F(UnaskedPagesTest, AreDroppedForAKernelThatStaysBusy) {
  requests_ = 10;
  pages_.offer(leftover_at(100), chunk_of("abcd"));
  go_on_.set_value();
  serve();
  wait_for(1);
  EXPECT_THAT(stored_, ElementsAre(Stored{101, "c"}));
}

TEST_F(UnaskedPagesTest, AreStoredInSlices) {
  constexpr std::uint64_t kSlice = 64 << 10;
  const std::string text(3 * kSlice + 5, 'x');
  Leftover large = leftover_at(0);
  large.from.piece = {format::Digest{}, 0, text.size(), false};
  large.ranges = {{0, text.size()}};
  const Reading reading(pages_, format::kRootInode, {kSlice + 100, kSlice + 101});
  pages_.offer(std::move(large), chunk_of(text));
  go_on_.set_value();
  serve();
  wait_for(3);
  EXPECT_THAT(stored_,
              ElementsAre(Stored{0, text.substr(0, kSlice)},
                          Stored{2 * kSlice, text.substr(0, kSlice)}, Stored{3 * kSlice, "xxxxx"}));
}

TEST_F(UnaskedPagesTest, AreThoseOfThePieceInTheChunk) {
  pages_.offer(leftover_at(100), chunk_of("abcd"));
  go_on_.set_value();
  serve();
  wait_for(2);
  EXPECT_THAT(stored_, ElementsAre(Stored{100, "b"}, Stored{101, "c"}));
}

TEST_F(UnaskedPagesTest, AreServedOnceForAllWhoReadThePieceAtOnce) {
  serve();
  pages_.offer(leftover_at(100), chunk_of("abcd"));
  begun_.get_future().wait();
  pages_.offer(leftover_at(100), chunk_of("abcd"));
  pages_.offer(leftover_at(200), chunk_of("efgh"));
  pages_.offer(leftover_at(200), chunk_of("efgh"));
  pages_.offer(leftover_at(300), chunk_of("ijkl"));
  go_on_.set_value();
  wait_for(6);
  EXPECT_EQ(stored_.back(), (Stored{301, "k"}));
}

TEST_F(UnaskedPagesTest, AreDroppedWhenTooManyWait) {
  const auto dropped = chunk_of("dropped");
  for (std::size_t i = 0; i < UnaskedPages::kMaxWaiting; ++i) {
    pages_.offer(leftover_at(10 * i), chunk_of("kept"));
  }
  pages_.offer(leftover_at(1000), dropped);
  EXPECT_EQ(dropped.use_count(), 1);
}

TEST_F(UnaskedPagesTest, AreNotThoseThatAreBeingRead) {
  const Reading other(pages_, format::InodeNumber{2}, {100, 102});
  const Reading reading(pages_, format::kRootInode, {90, 101});
  { const Reading ended(pages_, format::kRootInode, {101, 102}); }
  pages_.offer(leftover_at(100), chunk_of("abcd"));
  go_on_.set_value();
  serve();
  wait_for(1);
  EXPECT_THAT(stored_, ElementsAre(Stored{101, "c"}));
}

TEST_F(UnaskedPagesTest, AreDroppedAtTheEnd) {
  const auto waiting = chunk_of("abcd");
  serve();
  pages_.offer(leftover_at(100), chunk_of("abcd"));
  begun_.get_future().wait();
  pages_.offer(leftover_at(200), waiting);
  pages_.close();
  pages_.offer(leftover_at(300), waiting);
  EXPECT_EQ(waiting.use_count(), 1);
  go_on_.set_value();
  server_.join();
  EXPECT_EQ(stored_.size(), 2U);
}

}  // namespace
}  // namespace puzzlefs::fs
