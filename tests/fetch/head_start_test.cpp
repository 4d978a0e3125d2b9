// The beginning of a pack, asked for before anybody wants it.
#include "fetch/head_start.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <future>
#include <memory>
#include <optional>
#include <string>

#include "fetch/runtime.h"
#include "format/error.h"
#include "manual_source.h"

namespace puzzlefs::fetch {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;

format::Descriptor pack_of(std::uint64_t size, const std::string& hot_size = {}) {
  format::Descriptor pack;
  pack.media_type = format::kPackType;
  pack.size = size;
  pack.digest = format::sha256(as_bytes(hot_size));
  if (!hot_size.empty()) pack.annotations.emplace(format::kHotSizeAnnotation, hot_size);
  return pack;
}

std::optional<std::uint64_t> hot_size(std::vector<format::Descriptor> layers) {
  format::Manifest manifest;
  manifest.layers = std::move(layers);
  const auto range = hot_range_of(manifest);
  return range ? std::optional(range->size) : std::nullopt;
}

TEST(HotRange, IsThatOfTheFirstPackThatHasOne) {
  EXPECT_EQ(hot_size({}), std::nullopt);
  EXPECT_EQ(hot_size({pack_of(100)}), std::nullopt);
  EXPECT_EQ(hot_size({pack_of(100), pack_of(100, "40"), pack_of(100, "50")}), 40U);
}

TEST(HotRange, NonsenseIsNone) {
  for (const auto* text : {"101", "0", "-1", "4x", " 4", "99999999999999999999"}) {
    EXPECT_EQ(hot_size({pack_of(100, text)}), std::nullopt) << text;
  }
  const auto too_large = HeadStart::kLargest + 1;
  EXPECT_EQ(hot_size({pack_of(too_large, std::to_string(too_large))}), std::nullopt);
  auto metadata = pack_of(100, "40");
  metadata.media_type = format::kRootfsType;
  EXPECT_EQ(hot_size({metadata}), std::nullopt);
}

/// Somebody who reads a range.
struct Reader {
  std::string bytes;
  std::promise<Outcome<Done>> over;
  std::shared_ptr<RangeRead> read;

  bool is_over() {
    if (!future.valid()) future = over.get_future();
    return future.wait_for(std::chrono::seconds(10)) == std::future_status::ready;
  }
  bool waits() {
    if (!future.valid()) future = over.get_future();
    return future.wait_for(std::chrono::seconds(0)) == std::future_status::timeout;
  }
  bool succeeded() { return is_over() && future.get().ok(); }
  std::future<Outcome<Done>> future;
};

class HeadStartTest : public ::testing::Test {
 protected:
  /// A read that is under way keeps who it is for. Ending one may begin others.
  void TearDown() override {
    for (std::size_t i = 0; i < source_.reads.size(); ++i) source_.reads[i]->end();
  }
  void begin(std::uint64_t size = 10) { head_.emplace(runtime_, source_, HotRange{pack_, size}); }
  std::shared_ptr<Reader> read(ByteRange range, Freshness freshness = Freshness::kAny) {
    auto reader = std::make_shared<Reader>();
    reader->read = head_->read_range(
        pack_, range, freshness,
        [reader, next = range.offset](std::uint64_t offset, ByteView bytes) mutable {
          EXPECT_EQ(offset, next);
          next += bytes.size();
          reader->bytes += as_text(bytes);
        },
        [reader](Outcome<Done> outcome) { reader->over.set_value(std::move(outcome)); });
    return reader;
  }
  ManualSource::Read& stream() { return *source_.reads.at(0); }
  void arrive(std::uint64_t offset, std::string_view bytes) {
    stream().on_bytes(offset, as_bytes(bytes));
  }
  static std::exception_ptr failure() {
    return std::make_exception_ptr(UnavailableError("It broke off."));
  }

  const format::Descriptor pack_ = pack_of(100);
  ManualSource source_;
  Runtime runtime_;
  std::optional<HeadStart> head_;
};

TEST_F(HeadStartTest, AsksAtOnceAndGivesWhatHasComeAndWhatComes) {
  begin();
  EXPECT_THAT(source_.reads, SizeIs(1));
  EXPECT_EQ(stream().range, (ByteRange{0, 10}));
  arrive(0, "abcd");
  const auto early = read({1, 2});
  EXPECT_TRUE(early->succeeded());
  EXPECT_EQ(early->bytes, "bc");
  const auto late = read({2, 8});
  EXPECT_EQ(late->bytes, "cd");
  EXPECT_TRUE(late->waits());
  arrive(4, "efghij");
  EXPECT_TRUE(late->succeeded());
  EXPECT_EQ(late->bytes, "cdefghij");
  EXPECT_THAT(source_.reads, SizeIs(1));
}

TEST_F(HeadStartTest, GivesWhatHasComeAlsoWhenAllHas) {
  begin();
  arrive(0, "abcdefghij");
  stream().done(Done{});
  const auto reader = read({3, 4});
  EXPECT_TRUE(reader->succeeded());
  EXPECT_EQ(reader->bytes, "defg");
  EXPECT_THAT(source_.reads, SizeIs(1));
}

TEST_F(HeadStartTest, OtherRangesAndThosePastCachesAreAskedForAnew) {
  begin();
  read({8, 4});
  read({10, 1});
  read({0, 4}, Freshness::kBypass);
  ASSERT_THAT(source_.reads, SizeIs(4));
  EXPECT_EQ(source_.reads[1]->range, (ByteRange{8, 4}));
  for (const auto& other : source_.reads) other->end();
}

TEST_F(HeadStartTest, OfAWholePackWhatLiesBehindIsDropped) {
  begin();
  const auto reader = read({0, 10});
  arrive(0, "abcdefghijklmno");
  EXPECT_FALSE(stream().cancelled);
  arrive(15, "pqr");
  EXPECT_TRUE(stream().cancelled);
  EXPECT_TRUE(reader->succeeded());
  EXPECT_EQ(reader->bytes, "abcdefghij");
}

TEST_F(HeadStartTest, TheRestOfWhatBreaksOffIsAskedForAnew) {
  begin();
  const auto first = read({0, 6});
  const auto second = read({4, 6});
  arrive(0, "abcde");
  stream().done(failure());
  ASSERT_THAT(source_.reads, SizeIs(3));
  EXPECT_EQ(source_.reads[1]->range, (ByteRange{5, 1}));
  EXPECT_EQ(source_.reads[2]->range, (ByteRange{5, 5}));
  source_.reads[1]->on_bytes(5, as_bytes("f"));
  source_.reads[1]->done(Done{});
  EXPECT_TRUE(first->succeeded());
  EXPECT_EQ(first->bytes, "abcdef");
  source_.reads[2]->done(failure());
  EXPECT_FALSE(second->succeeded());
  // What came is still there, what did not is asked for.
  EXPECT_TRUE(read({0, 5})->succeeded());
  read({0, 6});
  ASSERT_THAT(source_.reads, SizeIs(4));
  source_.reads[3]->end();
}

TEST_F(HeadStartTest, HoldsNothingAfterItsRelease) {
  begin();
  arrive(0, "abcd");
  const auto follower = read({0, 10});
  head_->release();
  read({0, 4});
  EXPECT_THAT(source_.reads, SizeIs(2));
  arrive(4, "efghij");
  EXPECT_TRUE(follower->succeeded());
  EXPECT_EQ(follower->bytes, "abcdefghij");
  source_.reads[1]->end();
}

TEST_F(HeadStartTest, IsNotHeldBackByOneOfItsReaders) {
  begin();
  const auto one = read({0, 4});
  const auto other = read({4, 4});
  one->read->set_paused(true);
  EXPECT_FALSE(stream().paused);
  arrive(0, "abcdefgh");
  EXPECT_TRUE(other->succeeded());
  stream().end();
}

TEST_F(HeadStartTest, EndsWhenItsReleaseFindsNobody) {
  begin();
  arrive(0, "ab");
  head_->release();
  EXPECT_TRUE(stream().cancelled);
  stream().end();
}

TEST_F(HeadStartTest, EndsWithItsOwner) {
  begin();
  const auto reader = read({0, 4});
  arrive(0, "abcd");
  EXPECT_TRUE(reader->succeeded());
  EXPECT_FALSE(stream().cancelled);
  head_.reset();
  EXPECT_TRUE(stream().cancelled);
  stream().end();
}

}  // namespace
}  // namespace puzzlefs::fetch
