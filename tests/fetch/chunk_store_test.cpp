#include "fetch/chunk_store.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <future>
#include <limits>
#include <thread>

#include "format/chunk_codec.h"
#include "memory_source.h"

namespace puzzlefs::fetch {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;
using ::testing::ThrowsMessage;

constexpr auto kMaxOffset = std::numeric_limits<std::uint64_t>::max();

format::ChunkRef piece_of(const format::Descriptor& chunk) {
  return {.blob = chunk.digest, .offset = 0, .size = chunk.size, .compressed = false};
}

ChunkData read(ChunkStore& store, const format::ChunkRef& piece) {
  return wait_for<ChunkData>([&](auto done) { store.read(piece, std::move(done)); });
}

class ChunkStoreTest : public ::testing::Test {
 protected:
  format::Descriptor add(std::string_view content) {
    manifest_.layers.push_back(source_.add(content));
    return manifest_.layers.back();
  }
  format::Descriptor add_compressed(std::string_view content) {
    const auto stored = format::ChunkCompressor().compress(as_bytes(content)).value();
    return add(as_text(stored));
  }
  /// A store for the chunks added so far.
  std::unique_ptr<ChunkStore> open(std::size_t memory_limit = ChunkStore::kDefaultMemoryLimit) {
    return std::make_unique<ChunkStore>(blobs_, manifest_, memory_limit);
  }

  MemorySource source_;
  format::Manifest manifest_;
  Runtime runtime_{4};
  BlobStore blobs_{runtime_, source_, nullptr};
};

TEST_F(ChunkStoreTest, GivesAnUncompressedChunkAsItIsStored) {
  const auto chunk = add("content");
  EXPECT_EQ(as_text(*read(*open(), piece_of(chunk))), "content");
}

TEST_F(ChunkStoreTest, DecompressesAChunk) {
  const std::string content(100'000, 'c');
  auto piece = piece_of(add_compressed(content));
  piece.compressed = true;
  piece.size = content.size();
  EXPECT_EQ(as_text(*read(*open(), piece)), content);
}

TEST_F(ChunkStoreTest, KeepsTheTwoReadingsOfOneBlobApart) {
  const std::string content(100'000, 'c');
  const auto chunk = add_compressed(content);
  auto raw = piece_of(chunk);
  auto unfolded = raw;
  unfolded.compressed = true;
  const auto store = open();
  EXPECT_EQ(read(*store, raw)->size(), chunk.size);
  EXPECT_EQ(read(*store, unfolded)->size(), content.size());
  EXPECT_EQ(read(*store, raw)->size(), chunk.size);
}

TEST_F(ChunkStoreTest, AnswersAtOnceWhatIsInMemory) {
  const auto chunk = add("content");
  const auto store = open();
  read(*store, piece_of(chunk));
  std::thread::id answered_on;
  store->read(piece_of(chunk), [&](auto) { answered_on = std::this_thread::get_id(); });
  EXPECT_EQ(answered_on, std::this_thread::get_id());
  EXPECT_THAT(source_.reads(), SizeIs(1));
}

TEST_F(ChunkStoreTest, RecordsWhatReadersUseInOrderAndOnce) {
  const auto a = add("a");
  const auto b = add("b");
  const auto c = add("c");
  const auto store = open();
  wait_for<ChunkData>(
      [&](auto done) { store->read(piece_of(c), std::move(done), Purpose::kBackground); });
  for (const auto& chunk : {b, a, b}) read(*store, piece_of(chunk));
  EXPECT_THAT(store->used(), ElementsAre(b.digest, a.digest));
}

TEST_F(ChunkStoreTest, FetchesAChunkOnceHoweverManyWait) {
  const auto chunk = add(std::string(50'000, 'x'));
  const auto store = open();
  std::vector<std::thread> readers;
  std::atomic<int> right = 0;
  for (int i = 0; i < 64; ++i) {
    readers.emplace_back([&] { right += read(*store, piece_of(chunk))->size() == chunk.size; });
  }
  for (auto& reader : readers) reader.join();
  EXPECT_EQ(right, 64);
  EXPECT_THAT(source_.reads(), SizeIs(1));
}

TEST_F(ChunkStoreTest, EveryWaiterHasItsOwnPieceChecked) {
  const auto chunk = add("content");
  const auto store = open();
  source_.hold();
  auto outside = piece_of(chunk);
  outside.size += 1;
  std::promise<bool> first;
  std::promise<bool> second;
  store->read(piece_of(chunk), [&](auto outcome) { first.set_value(outcome.ok()); });
  store->read(outside, [&](auto outcome) { second.set_value(outcome.ok()); });
  // The release must come after the source was asked, which a worker does.
  while (source_.reads().empty()) std::this_thread::yield();
  source_.release();
  EXPECT_TRUE(first.get_future().get());
  EXPECT_FALSE(second.get_future().get());
  EXPECT_THAT(source_.reads(), SizeIs(1));
}

TEST_F(ChunkStoreTest, ForgetsTheChunkThatWasUsedLeastRecently) {
  const auto a = add(std::string(1000, 'a'));
  const auto b = add(std::string(1000, 'b'));
  const auto c = add(std::string(1000, 'c'));
  const auto store = open(2500);
  for (const auto& chunk : {a, b, a, c}) read(*store, piece_of(chunk));
  ASSERT_THAT(source_.reads(), SizeIs(3));
  read(*store, piece_of(a));
  read(*store, piece_of(c));
  EXPECT_THAT(source_.reads(), SizeIs(3));
  read(*store, piece_of(b));
  EXPECT_THAT(source_.reads(), SizeIs(4));
}

TEST_F(ChunkStoreTest, AChunkLargerThanTheMemoryLimitIsGivenButNotKept) {
  const auto chunk = add(std::string(1000, 'a'));
  const auto store = open(999);
  EXPECT_EQ(read(*store, piece_of(chunk))->size(), 1000U);
  read(*store, piece_of(chunk));
  EXPECT_THAT(source_.reads(), SizeIs(2));
}

TEST_F(ChunkStoreTest, TriesAnewAfterAFailure) {
  const auto chunk = add("content");
  const auto store = open();
  source_.answer_next(std::make_exception_ptr(UnavailableError("It is down.")));
  EXPECT_THROW(read(*store, piece_of(chunk)), UnavailableError);
  EXPECT_EQ(as_text(*read(*store, piece_of(chunk))), "content");
}

TEST_F(ChunkStoreTest, APieceOutsideItsChunkIsCorrupt) {
  const auto chunk = add("content");
  const auto store = open();
  const std::pair<std::uint64_t, std::uint64_t> hostile[] = {
      {0, 8}, {1, 7}, {8, 0}, {kMaxOffset, 1}, {1, kMaxOffset}, {kMaxOffset, kMaxOffset}};
  for (const auto& [offset, size] : hostile) {
    const format::ChunkRef piece{chunk.digest, offset, size, false};
    EXPECT_THAT([&] { read(*store, piece); },
                ThrowsMessage<CorruptError>(HasSubstr(chunk.digest.to_string())))
        << offset << " " << size;
  }
}

TEST_F(ChunkStoreTest, AChunkThatTheManifestDoesNotListIsCorrupt) {
  const auto unlisted = source_.add("unlisted");
  EXPECT_THAT([&] { read(*open(), piece_of(unlisted)); },
              ThrowsMessage<CorruptError>(HasSubstr(unlisted.digest.to_string())));
  EXPECT_THAT(source_.reads(), IsEmpty());
}

TEST_F(ChunkStoreTest, AChunkOfAHostileSizeIsNotAskedFor) {
  add("content");
  manifest_.layers.back().size = 2 * format::kMaxChunkSize;
  EXPECT_THROW(read(*open(), piece_of(manifest_.layers.back())), CorruptError);
  EXPECT_THAT(source_.reads(), IsEmpty());
}

TEST_F(ChunkStoreTest, AChunkThatIsNotCompressedAsClaimedIsCorruptAndNamed) {
  auto piece = piece_of(add("content"));
  piece.compressed = true;
  EXPECT_THAT([&] { read(*open(), piece); },
              ThrowsMessage<CorruptError>(HasSubstr(piece.blob.to_string())));
}

}  // namespace
}  // namespace puzzlefs::fetch
