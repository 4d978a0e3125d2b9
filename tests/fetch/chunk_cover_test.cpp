#include "fetch/chunk_cover.h"

#include <gtest/gtest.h>

#include <limits>

#include "fetch/bounded_map.h"

namespace puzzlefs::fetch {
namespace {

constexpr std::uint64_t kSize = 1000;

const format::Digest kChunk = format::sha256(as_bytes("chunk"));

format::ChunkRef part(std::uint64_t offset, std::uint64_t size) {
  return {kChunk, offset, size, true};
}

TEST(ChunkCoverTest, IsCompleteWhenEveryByteIsCovered) {
  ChunkCover cover;
  EXPECT_FALSE(cover.add(part(0, 10), kSize));
  EXPECT_FALSE(cover.add(part(500, 500), kSize));
  EXPECT_FALSE(cover.add(part(11, 489), kSize));
  EXPECT_TRUE(cover.add(part(10, 1), kSize));
  EXPECT_TRUE(cover.add(part(3, 4), kSize));
}

TEST(ChunkCoverTest, PiecesMayOverlap) {
  ChunkCover cover;
  EXPECT_FALSE(cover.add(part(100, 800), kSize));
  EXPECT_FALSE(cover.add(part(50, 100), kSize));
  EXPECT_FALSE(cover.add(part(0, 75), kSize));
  EXPECT_TRUE(cover.add(part(200, 800), kSize));
}

TEST(ChunkCoverTest, TheSizeMayBeToldLater) {
  ChunkCover cover;
  EXPECT_FALSE(cover.add(part(0, 600), 0));
  EXPECT_FALSE(cover.add(part(600, 400), 0));
  EXPECT_TRUE(cover.add(part(0, 1), kSize));
}

TEST(ChunkCoverTest, ChunksAreCountedApart) {
  ChunkCover cover;
  auto other = part(0, 500);
  other.blob = format::sha256(as_bytes("other"));
  EXPECT_FALSE(cover.add(other, kSize));
  EXPECT_FALSE(cover.add(part(500, 500), kSize));
}

TEST(ChunkCoverTest, HostilePiecesAreBorne) {
  ChunkCover cover;
  EXPECT_FALSE(cover.add(part(std::numeric_limits<std::uint64_t>::max(), 2), kSize));
  for (std::uint64_t i = 0; i < 10'000; ++i) EXPECT_FALSE(cover.add(part(2 * i + 1, 1), 1 << 20));
}

TEST(BoundedMapTest, ForgetsWhatCameFirst) {
  BoundedMap<int, int> map(2);
  map[1] = 10;
  map[2] = 20;
  map[1] = 11;
  map[3] = 30;
  EXPECT_EQ(map.find(1), nullptr);
  ASSERT_NE(map.find(2), nullptr);
  EXPECT_EQ(*map.find(2), 20);
  map.erase(2);
  map.erase(2);
  map[4] = 40;
  EXPECT_EQ(map.find(2), nullptr);
  EXPECT_EQ(*map.find(3), 30);
  EXPECT_EQ(*map.find(4), 40);
}

}  // namespace
}  // namespace puzzlefs::fetch
