// Chunks of packs as zstd frames, and frames that nobody should believe.
#include "format/zstd_frame.h"

#include <gtest/gtest.h>
#include <zstd.h>

#include <algorithm>
#include <cstdint>
#include <string>

#include "format/digest.h"
#include "format/error.h"

namespace puzzlefs::format {
namespace {

Bytes to_bytes(std::string_view text) {
  const auto view = as_bytes(text);
  return {view.begin(), view.end()};
}

std::string noise(std::size_t size) {
  std::string text;
  for (int i = 0; text.size() < size; ++i)
    text += as_text(sha256(as_bytes(std::to_string(i))).bytes());
  text.resize(size);
  return text;
}

const Bytes kText = to_bytes(std::string(10'000, 'a') + noise(5'000));

TEST(ZstdFrame, UnfoldsToWhatItWasMadeOf) {
  for (const int level : {1, FrameCompressor::kDefaultLevel, 19}) {
    FrameCompressor compressor(level);
    for (int twice = 0; twice < 2; ++twice) {
      const auto frame = compressor.compress(kText);
      ASSERT_TRUE(frame);
      EXPECT_LT(frame->size(), kText.size());
      EXPECT_EQ(FrameDecompressor().decompress(*frame, kText.size()), kText);
    }
  }
}

TEST(ZstdFrame, IsNotMadeWhereItWouldNotBeSmaller) {
  FrameCompressor compressor;
  for (const std::size_t size : {0U, 1U, 2U, 100U, 100'000U})
    EXPECT_FALSE(compressor.compress(to_bytes(noise(size)))) << size;
  EXPECT_TRUE(compressor.compress(kText)) << "the compressor is of use afterwards";
}

// The frame of a text that is given in parts.
Bytes stream_frame(std::uint64_t size, ByteView plain, std::size_t part_size) {
  Bytes frame;
  FrameStream stream(9, size, [&frame](ByteView part) {
    EXPECT_FALSE(part.empty());
    frame.insert(frame.end(), part.begin(), part.end());
  });
  while (!plain.empty()) {
    const auto part = plain.first(std::min(plain.size(), part_size));
    stream.write(part);
    plain = plain.subspan(part.size());
  }
  stream.finish();
  return frame;
}

TEST(ZstdFrame, IsMadeOfParts) {
  const Bytes text = to_bytes(noise(300'000) + std::string(1'000'000, 'a') + noise(300'000));
  for (const std::size_t part_size : {std::size_t{777}, std::size_t{100'000}, text.size()}) {
    const Bytes frame = stream_frame(text.size(), text, part_size);
    EXPECT_LT(frame.size(), text.size() / 2);
    EXPECT_EQ(FrameDecompressor().decompress(frame, text.size()), text);
    EXPECT_EQ(ZSTD_getFrameContentSize(frame.data(), frame.size()), text.size());
  }
}

TEST(ZstdFrame, IsMadeOfNoParts) {
  EXPECT_TRUE(FrameDecompressor().decompress(stream_frame(0, {}, 1), 0).empty());
}

TEST(ZstdFrame, IsNotMadeOfPartsThatAreNotAsManyBytesAsWereSaid) {
  EXPECT_THROW(stream_frame(kText.size() + 1, kText, 1000), Error);
  EXPECT_THROW(stream_frame(kText.size() - 1, kText, 1000), Error);
}

TEST(ZstdFrame, IsRefusedIfItUnfoldsToAnotherSize) {
  const auto frame = FrameCompressor().compress(kText);
  FrameDecompressor decompressor;
  for (const std::size_t size :
       {std::size_t{0}, std::size_t{1}, kText.size() - 1, kText.size() + 1})
    EXPECT_THROW(decompressor.decompress(*frame, size), CorruptError) << size;
  EXPECT_EQ(decompressor.decompress(*frame, kText.size()), kText);
}

TEST(ZstdFrame, IsRefusedIfItIsNone) {
  FrameDecompressor decompressor;
  EXPECT_THROW(decompressor.decompress({}, 10), CorruptError);
  EXPECT_THROW(decompressor.decompress(to_bytes("not a frame at all"), 10), CorruptError);
  EXPECT_THROW(decompressor.decompress(Bytes(100), 100), CorruptError);
  const auto frame = FrameCompressor().compress(kText);
  for (std::size_t size = 0; size < frame->size(); size += 7)
    EXPECT_THROW(decompressor.decompress(ByteView(*frame).first(size), kText.size()), CorruptError)
        << size;
}

// 64 MiB in some kilobytes; what it claims to be is all that is allocated.
TEST(ZstdFrame, IsRefusedIfItIsABomb) {
  const auto bomb = FrameCompressor().compress(Bytes(64 << 20));
  ASSERT_TRUE(bomb);
  EXPECT_LT(bomb->size(), 16U << 10);
  EXPECT_THROW(FrameDecompressor().decompress(*bomb, 4096), CorruptError);
}

}  // namespace
}  // namespace puzzlefs::format
