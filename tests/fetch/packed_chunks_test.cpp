// ChunkStore for packed images.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "../support/temp_dir.h"
#include "fetch/chunk_store.h"
#include "fetch/stored_metadata.h"
#include "format/error.h"
#include "packed_image.h"

namespace puzzlefs::fetch {
namespace {

using format::ChunkIndex;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;

constexpr std::size_t kSize = 20'000;

class PackedChunksTest : public ::testing::Test {
 protected:
  void open(std::uint32_t count, Cache* cache = nullptr) {
    for (std::uint32_t i = 0; i < count; ++i) image_.add(noise(kSize, i));
    image_.finish(source_);
    blobs_.emplace(runtime_, source_, cache);
    packs_.emplace(runtime_, source_, image_.metadata());
    chunks_.emplace(runtime_, *blobs_, image_.metadata(), *packs_);
  }
  std::string read(std::uint32_t index) {
    const auto data = wait_for<ChunkData>(
        [&](auto done) { chunks_->read(image_.piece(ChunkIndex{index}), std::move(done)); });
    return std::string(as_text(*data));
  }
  std::size_t prefetch(std::vector<ChunkIndex> indexes) {
    return wait_for<std::size_t>([&](auto done) {
      chunks_->prefetch(std::move(indexes), Priority::kPrefetch, std::move(done));
    });
  }

  test::TempDir directory_;
  MemorySource source_;
  PackedImage image_;
  Runtime runtime_{2};
  std::optional<BlobStore> blobs_;
  std::optional<PackReader> packs_;
  std::optional<ChunkStore> chunks_;
};

TEST_F(PackedChunksTest, ReadsAChunkAndItsNeighboursWithOneRequest) {
  open(5);
  EXPECT_EQ(read(2), noise(kSize, 2));
  for (std::uint32_t i = 0; i < 5; ++i) EXPECT_EQ(read(i), noise(kSize, i));
  EXPECT_THAT(source_.ranges(), SizeIs(1));
}

TEST_F(PackedChunksTest, ReadsAPackInOrderWithFewRequests) {
  open(1000);
  for (std::uint32_t i = 0; i < 1000; ++i) ASSERT_EQ(read(i), noise(kSize, i)) << i;
  std::uint64_t bytes = 0;
  for (const auto& range : source_.ranges()) bytes += range.size;
  EXPECT_EQ(bytes, 1000 * kSize) << "nothing was asked for twice";
  EXPECT_LT(source_.ranges().size(), 100U);  // how many depends on who is faster
}

TEST_F(PackedChunksTest, PrefetchesInOneRequest) {
  open(100);
  std::vector<ChunkIndex> all;
  for (std::uint32_t i = 0; i < 100; ++i) all.push_back(ChunkIndex{i});
  EXPECT_EQ(prefetch(all), 0U);
  const auto requests = source_.ranges().size();
  EXPECT_LE(requests, 2U) << "chunks are asked for 64 at a time";
  for (std::uint32_t i = 0; i < 100; ++i) EXPECT_EQ(read(i), noise(kSize, i));
  EXPECT_THAT(source_.ranges(), SizeIs(requests));
}

TEST_F(PackedChunksTest, PrefetchesNothingThatIsHere) {
  open(10);
  for (std::uint32_t i = 0; i < 10; ++i) read(i);
  const auto before = source_.ranges().size();
  EXPECT_EQ(prefetch({ChunkIndex{0}, ChunkIndex{9}}), 0U);
  EXPECT_THAT(source_.ranges(), SizeIs(before));
}

TEST_F(PackedChunksTest, RecordsWhatReadersUseInOrderAndOnce) {
  open(10);
  const auto digest = [&](std::uint32_t index) { return image_.chunk(ChunkIndex{index}).digest; };
  EXPECT_THAT(chunks_->used(), IsEmpty());
  prefetch({ChunkIndex{3}});
  for (const std::uint32_t i : {7, 2, 7, 3, 2}) read(i);
  wait_for<ChunkData>([&](auto done) {
    chunks_->read(image_.piece(ChunkIndex{5}), std::move(done), Purpose::kBackground);
  });
  EXPECT_THAT(chunks_->used(), ElementsAre(digest(7), digest(2), digest(3)));
}

TEST_F(PackedChunksTest, CountsWhatCouldNotBePrefetched) {
  open(3);
  source_.answer_next(std::make_exception_ptr(UnavailableError("The registry is away.")));
  EXPECT_EQ(prefetch({ChunkIndex{0}, ChunkIndex{1}, ChunkIndex{2}}), 3U);
  EXPECT_EQ(read(0), noise(kSize, 0));
}

TEST_F(PackedChunksTest, KeepsChunksInTheCacheAsTheyAreUncompressed) {
  Cache cache(directory_.path());
  image_.add(std::string(100'000, 'c'));
  open(3, &cache);
  EXPECT_EQ(read(0), std::string(100'000, 'c'));
  chunks_.reset();
  blobs_.reset();
  EXPECT_TRUE(cache.read(format::sha256(as_bytes(std::string(100'000, 'c')))));
  EXPECT_TRUE(cache.read(format::sha256(as_bytes(noise(kSize, 2)))));
}

TEST_F(PackedChunksTest, AsksOnlyForWhatIsNotInTheCache) {
  Cache cache(directory_.path());
  cache.write(format::sha256(as_bytes(noise(kSize, 1))), as_bytes(noise(kSize, 1)));
  open(3, &cache);
  EXPECT_EQ(read(1), noise(kSize, 1));
  EXPECT_THAT(source_.ranges(), IsEmpty());
}

TEST_F(PackedChunksTest, AsksAgainPastCachesForAWrongChunk) {
  open(1);
  source_.answer_next(Bytes(kSize));
  EXPECT_EQ(read(0), noise(kSize, 0));
  EXPECT_THAT(source_.reads(), ::testing::ElementsAre(Freshness::kAny, Freshness::kBypass));
}

TEST_F(PackedChunksTest, RefusesAChunkThatIsWrongTwice) {
  open(1);
  source_.answer_next(Bytes(kSize));
  source_.answer_next(Bytes(kSize));
  EXPECT_THROW(read(0), CorruptError);
}

TEST(StoredMetadata, IsRefusedIfItIsOrUnfoldsToMoreThanAny) {
  const auto layer = [](std::uint64_t stored, std::uint64_t plain) {
    format::Descriptor made;
    made.media_type = format::kRootfsZstdType;
    made.size = stored;
    made.annotations = {{std::string(format::kPlainDigestAnnotation), made.digest.to_string()},
                        {std::string(format::kPlainSizeAnnotation), std::to_string(plain)}};
    return made;
  };
  EXPECT_EQ(plain_metadata(layer(1000, 1 << 20)).size, std::uint64_t{1} << 20);
  EXPECT_EQ(plain_metadata(layer(100'000, 5'000'000)).size, 5'000'000U);
  EXPECT_THROW(plain_metadata(layer(1000, 10'000'000)), CorruptError);
  EXPECT_THROW(plain_metadata(layer(std::uint64_t{1} << 58, 1000)), CorruptError);
}

}  // namespace
}  // namespace puzzlefs::fetch
