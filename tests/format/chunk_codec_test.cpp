// The seekable form of chunks: round trips, and hostile input.
#include "format/chunk_codec.h"

#include <gtest/gtest.h>

#include <cstring>
#include <random>
#include <string>

#include "format/error.h"

namespace puzzlefs::format {
namespace {

Bytes text_chunk(std::size_t size) {
  std::string text;
  for (int line = 0; text.size() < size; ++line) text += "line " + std::to_string(line) + "\n";
  const auto bytes = as_bytes(text).first(size);
  return {bytes.begin(), bytes.end()};
}

Bytes random_chunk(std::size_t size) {
  std::mt19937 generator(42);
  Bytes bytes(size);
  for (auto& byte : bytes) byte = static_cast<std::byte>(generator());
  return bytes;
}

Bytes stored_text(std::size_t size) {
  return ChunkCompressor().compress(text_chunk(size)).value();
}

void put_u32(Bytes& bytes, std::size_t offset, std::uint32_t value) {
  std::memcpy(bytes.data() + offset, &value, sizeof value);
}

TEST(ChunkCodec, RoundTripsEverySizeAroundTheFrame) {
  for (const std::size_t size : {500U, 4095U, 4096U, 4097U, 70'000U, 262'144U}) {
    const Bytes chunk = text_chunk(size);
    const auto stored = ChunkCompressor().compress(chunk);
    ASSERT_TRUE(stored) << size;
    EXPECT_LT(stored->size(), chunk.size());
    EXPECT_EQ(ChunkDecompressor().decompress(*stored), chunk);
  }
}

TEST(ChunkCodec, DeclinesWhatDoesNotShrink) {
  EXPECT_FALSE(ChunkCompressor().compress(random_chunk(100'000)));
  EXPECT_FALSE(ChunkCompressor().compress(random_chunk(1)));
  EXPECT_FALSE(ChunkCompressor().compress({}));
}

TEST(ChunkCodec, IsReusableAfterDeclining) {
  ChunkCompressor compressor;
  EXPECT_FALSE(compressor.compress(random_chunk(50'000)));
  EXPECT_EQ(compressor.compress(text_chunk(50'000)), stored_text(50'000));
}

TEST(ChunkCodec, ReadsSeekTablesWithoutChecksums) {
  const Bytes chunk = text_chunk(5000);
  const Bytes stored = stored_text(5000);
  // Two frames: the table is 8 bytes of header, 2 × 12 of entries, 9 of footer. Rebuild it with
  // entries of 8 bytes and without the checksum flag.
  const std::size_t table = stored.size() - 41;
  Bytes plain_table(stored.begin(), stored.begin() + static_cast<std::ptrdiff_t>(table) + 8);
  put_u32(plain_table, table + 4, 2 * 8 + 9);
  for (std::size_t entry = 0; entry < 2; ++entry) {
    const auto from = stored.begin() + static_cast<std::ptrdiff_t>(table + 8 + entry * 12);
    plain_table.insert(plain_table.end(), from, from + 8);
  }
  plain_table.insert(plain_table.end(), stored.end() - 9, stored.end());
  plain_table[plain_table.size() - 5] = std::byte{0};
  EXPECT_EQ(ChunkDecompressor().decompress(plain_table), chunk);
}

TEST(ChunkCodec, RefusesEveryTruncation) {
  const Bytes stored = stored_text(9000);
  for (std::size_t size = 0; size < stored.size(); ++size)
    EXPECT_THROW(ChunkDecompressor().decompress(ByteView(stored).first(size)), CorruptError);
}

// A flipped bit may yield other bytes (their digest is checked elsewhere), but never more than the
// limit, a crash, or another exception.
TEST(ChunkCodec, SurvivesEveryFlippedByte) {
  const Bytes stored = stored_text(9000);
  ChunkDecompressor decompressor;
  int refused = 0;
  for (std::size_t at = 0; at < stored.size(); ++at) {
    Bytes flipped = stored;
    flipped[at] ^= std::byte{0xff};
    try {
      EXPECT_LE(decompressor.decompress(flipped).size(), kMaxChunkSize);
    } catch (const CorruptError&) {
      ++refused;
    }
  }
  EXPECT_GT(refused, 0);
  EXPECT_EQ(decompressor.decompress(stored), text_chunk(9000));
}

TEST(ChunkCodec, RefusesABombBeforeAllocating) {
  Bytes stored = stored_text(4000);
  const std::size_t entry = stored.size() - 9 - 12;
  put_u32(stored, entry + 4, 0xffff'ffff);
  EXPECT_THROW(ChunkDecompressor().decompress(stored), CorruptError);
}

TEST(ChunkCodec, RefusesAFrameThatUnfoldsToLessThanItSays) {
  Bytes stored = stored_text(4000);
  const std::size_t entry = stored.size() - 9 - 12;
  put_u32(stored, entry + 4, 4001);
  EXPECT_THROW(ChunkDecompressor().decompress(stored), CorruptError);
}

}  // namespace
}  // namespace puzzlefs::format
