#include "format/chunk_codec.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <new>
#include <string>

#include "format/error.h"

namespace puzzlefs::format {

namespace {

static_assert(std::endian::native == std::endian::little, "the seek table is little-endian");

constexpr std::size_t kFrameSize = 4096;
constexpr int kLevel = 3;
constexpr std::uint32_t kSkippableMagic = 0x184D2A5E;
constexpr std::uint32_t kSeekTableMagic = 0x8F92EAB1;
constexpr std::size_t kSkippableHeaderSize = 8;
constexpr std::size_t kFooterSize = 9;
constexpr std::size_t kEntrySize = 8;
constexpr std::size_t kChecksumSize = 4;
constexpr std::byte kTableHasChecksums{0x80};
// zstd_compression_format.md, "Frame_Header_Descriptor".
constexpr std::size_t kFrameDescriptorOffset = 4;
constexpr std::byte kFrameHasChecksum{0x04};

void append_u32(Bytes& out, std::uint32_t value) {
  const auto bytes = std::as_bytes(std::span(&value, 1));
  out.insert(out.end(), bytes.begin(), bytes.end());
}

std::uint32_t read_u32(ByteView bytes, std::size_t offset) {
  std::uint32_t value = 0;
  std::memcpy(&value, bytes.data() + offset, sizeof value);
  return value;
}

[[noreturn]] void fail(const std::string& what) {
  throw CorruptError("A compressed chunk is malformed: " + what + ".");
}

// The seek table at the end of a stored chunk, checked against the chunk's size.
class SeekTable {
 public:
  struct Frame {
    std::size_t stored;
    std::size_t plain;
  };

  explicit SeekTable(ByteView stored) {
    if (stored.size() < kSkippableHeaderSize + kFooterSize) fail("it has no seek table");
    const ByteView footer = stored.last(kFooterSize);
    if (read_u32(footer, 5) != kSeekTableMagic) fail("it has no seek table");
    const auto flags = std::to_integer<unsigned>(footer[4]);
    if ((flags & 0x7c) != 0) fail("its seek table has reserved bits set");
    entry_size_ = kEntrySize + ((flags & 0x80) != 0 ? kChecksumSize : 0);
    frames_ = read_u32(footer, 0);

    const std::uint64_t content = std::uint64_t{frames_} * entry_size_ + kFooterSize;
    const std::uint64_t table = kSkippableHeaderSize + content;
    if (table > stored.size()) fail("its seek table is longer than the chunk");
    frames_size_ = stored.size() - static_cast<std::size_t>(table);
    const ByteView header = stored.subspan(frames_size_);
    if (read_u32(header, 0) != kSkippableMagic || read_u32(header, 4) != content)
      fail("its seek table does not begin where it should");
    entries_ = header.subspan(kSkippableHeaderSize);
    check_sums();
  }

  std::uint32_t frames() const { return frames_; }
  std::size_t plain_size() const { return plain_size_; }
  Frame frame(std::uint32_t index) const {
    return {read_u32(entries_, index * entry_size_), read_u32(entries_, index * entry_size_ + 4)};
  }

 private:
  void check_sums() {
    std::uint64_t stored = 0;
    std::uint64_t plain = 0;
    for (std::uint32_t i = 0; i < frames_; ++i) {
      stored += frame(i).stored;
      plain += frame(i).plain;
    }
    if (stored != frames_size_) fail("its frames do not fill it");
    if (plain > kMaxChunkSize) fail("it unfolds to more than any chunk may have");
    plain_size_ = static_cast<std::size_t>(plain);
  }

  std::uint32_t frames_ = 0;
  std::size_t entry_size_ = 0;
  std::size_t frames_size_ = 0;
  std::size_t plain_size_ = 0;
  ByteView entries_;
};

// Compresses one frame into `out`. Gives its size and moves its checksum (of XXH64 the low 32 bits)
// out of it, for the seek table holds the checksums: zstd computes them for frames only.
std::pair<std::size_t, std::uint32_t> compress_frame(ZSTD_CCtx* context, ByteView plain,
                                                     std::span<std::byte> out) {
  ZSTD_outBuffer output{out.data(), out.size(), 0};
  ZSTD_inBuffer input{plain.data(), plain.size(), 0};
  // As the Rust program does, zstd is not told that this is all: its choices depend on it.
  std::size_t left = 0;
  if (!plain.empty()) left = ZSTD_compressStream2(context, &output, &input, ZSTD_e_continue);
  if (ZSTD_isError(left) == 0) left = ZSTD_compressStream2(context, &output, &input, ZSTD_e_end);
  if (ZSTD_isError(left) != 0)
    throw Error(EIO, std::string("zstd cannot compress: ") + ZSTD_getErrorName(left) + ".");
  if (left != 0) throw Error(EIO, "zstd cannot compress: a frame outgrew its bound.");

  const std::size_t size = output.pos - sizeof(std::uint32_t);
  out[kFrameDescriptorOffset] &= ~kFrameHasChecksum;
  return {size, read_u32(out, size)};
}

}  // namespace

ChunkCompressor::ChunkCompressor() : context_(ZSTD_createCCtx()) {
  if (!context_) throw std::bad_alloc();
  ZSTD_CCtx_setParameter(context_.get(), ZSTD_c_compressionLevel, kLevel);
  ZSTD_CCtx_setParameter(context_.get(), ZSTD_c_checksumFlag, 1);
}

std::optional<Bytes> ChunkCompressor::compress(ByteView chunk) {
  // The last frame is a short one, an empty one even.
  const std::size_t frames = chunk.size() / kFrameSize + 1;
  const std::size_t table_size =
      kSkippableHeaderSize + frames * (kEntrySize + kChecksumSize) + kFooterSize;
  Bytes out(frames * ZSTD_compressBound(kFrameSize));
  Bytes entries;
  entries.reserve(table_size);
  std::size_t used = 0;
  for (std::size_t i = 0; i < frames; ++i) {
    const ByteView plain =
        chunk.subspan(i * kFrameSize, std::min(kFrameSize, chunk.size() - i * kFrameSize));
    const auto [size, checksum] =
        compress_frame(context_.get(), plain, std::span(out).subspan(used));
    append_u32(entries, static_cast<std::uint32_t>(size));
    append_u32(entries, static_cast<std::uint32_t>(plain.size()));
    append_u32(entries, checksum);
    used += size;
    if (used + table_size >= chunk.size()) return std::nullopt;
  }

  out.resize(used);
  out.reserve(used + table_size);
  append_u32(out, kSkippableMagic);
  append_u32(out, static_cast<std::uint32_t>(table_size - kSkippableHeaderSize));
  out.insert(out.end(), entries.begin(), entries.end());
  append_u32(out, static_cast<std::uint32_t>(frames));
  out.push_back(kTableHasChecksums);
  append_u32(out, kSeekTableMagic);
  return out;
}

ChunkDecompressor::ChunkDecompressor() : context_(ZSTD_createDCtx()) {
  if (!context_) throw std::bad_alloc();
}

Bytes ChunkDecompressor::decompress(ByteView stored) {
  const SeekTable table(stored);
  Bytes plain(table.plain_size());
  std::size_t from = 0;
  std::size_t to = 0;
  for (std::uint32_t i = 0; i < table.frames(); ++i) {
    const auto frame = table.frame(i);
    const std::size_t size = ZSTD_decompressDCtx(context_.get(), plain.data() + to, frame.plain,
                                                 stored.data() + from, frame.stored);
    if (ZSTD_isError(size) != 0) fail(ZSTD_getErrorName(size));
    if (size != frame.plain) fail("a frame has another size than its seek table says");
    from += frame.stored;
    to += frame.plain;
  }
  return plain;
}

}  // namespace puzzlefs::format
