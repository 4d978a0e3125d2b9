// FastCDC as format version 3 defines it (doc/format.md).
#include "build/fastcdc.h"

#include <gtest/gtest.h>
#include <openssl/evp.h>

#include <array>
#include <string>
#include <vector>

#include "build/content_stream.h"
#include "build/gear_table.h"
#include "format/digest.h"
#include "trees.h"

namespace puzzlefs::build {
namespace {

std::vector<std::size_t> chunk_sizes(std::string_view stream) {
  std::vector<std::size_t> sizes;
  ByteView rest = as_bytes(stream);
  while (!rest.empty()) {
    sizes.push_back(first_chunk_size(rest));
    rest = rest.subspan(sizes.back());
  }
  return sizes;
}

/// The digests of "fastcdc:0", "fastcdc:1" and so on, up to a million bytes.
std::string known_stream() {
  std::string stream;
  for (int i = 0; stream.size() < 1'000'000; ++i) {
    stream += as_text(format::sha256(as_bytes("fastcdc:" + std::to_string(i))).bytes());
  }
  return stream;
}

// As the Rust puzzlefs 0.2.0 cuts it.
const std::vector<std::size_t> kKnownSizes{66986,  72459, 30057, 76434, 157951, 28136, 95114,
                                           111570, 73815, 80632, 91433, 39024,  72977, 3412};

TEST(FastCdc, GearTableIsMadeOfMd5) {
  for (std::size_t value = 0; value < kGear.size(); ++value) {
    const std::string text(64, static_cast<char>(value));
    std::array<unsigned char, EVP_MAX_MD_SIZE> md5{};
    ASSERT_EQ(EVP_Digest(text.data(), text.size(), md5.data(), nullptr, EVP_md5(), nullptr), 1);
    std::uint64_t head = 0;
    for (std::size_t i = 0; i < sizeof head; ++i) head = head << 8 | md5[i];
    EXPECT_EQ(kGear[value], head) << value;
  }
}

TEST(FastCdc, CutsWhereTheRustProgramCuts) {
  EXPECT_EQ(chunk_sizes(known_stream()), kKnownSizes);
}

TEST(FastCdc, LeavesAStreamOfAtMostTheMinimumWhole) {
  EXPECT_EQ(chunk_sizes(test::noise(kMinChunkSize, "small")),
            std::vector<std::size_t>{kMinChunkSize});
  EXPECT_EQ(chunk_sizes("x"), std::vector<std::size_t>{1});
}

TEST(FastCdc, CutsAStreamWithoutFeaturesAtTheMaximum) {
  EXPECT_EQ(chunk_sizes(std::string(2 * kLongestChunkSize + 3, '\0')),
            (std::vector<std::size_t>{kLongestChunkSize, kLongestChunkSize, 3}));
}

TEST(FastCdc, FindsTheSameCutsAgainAfterAnInsertion) {
  auto sizes = chunk_sizes("inserted" + known_stream());
  ASSERT_EQ(sizes.size(), kKnownSizes.size());
  EXPECT_EQ(sizes.front(), kKnownSizes.front() + 8);
  sizes.front() -= 8;
  EXPECT_EQ(sizes, kKnownSizes);
}

// Whatever the sizes of the reads, and wherever a buffer ends.
TEST(ContentStream, CutsAsFastCdcCutsTheWhole) {
  const std::string content = test::noise(3 * ContentStream::kBufferSize, "stream");
  for (const std::size_t read_size : {std::size_t{4097}, std::size_t{1} << 20, content.size()}) {
    BufferPool buffers(2, ContentStream::kBufferSize);
    std::vector<std::size_t> sizes;
    std::string seen;
    ContentStream stream(buffers, [&](const Slice& chunk) {
      sizes.push_back(chunk.bytes.size());
      seen += as_text(chunk.bytes);
    });
    for (std::size_t at = 0; at < content.size();) {
      const auto space = stream.space();
      const std::size_t size = std::min({read_size, space.size(), content.size() - at});
      std::memcpy(space.data(), content.data() + at, size);
      stream.append(size);
      at += size;
    }
    stream.end_chunk();
    EXPECT_EQ(sizes, chunk_sizes(content)) << read_size;
    EXPECT_EQ(seen == content, true) << read_size;
  }
}

}  // namespace
}  // namespace puzzlefs::build
