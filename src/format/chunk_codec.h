// How a chunk is stored when it is compressed: the zstd seekable format (zstd's
// contrib/seekable_format/zstd_seekable_compression_format.md) with frames of 4096 bytes at level 3
// and checksums in the seek table, as the Rust puzzlefs writes it.
#pragma once

#include <zstd.h>

#include <cstdint>
#include <memory>
#include <optional>

#include "format/bytes.h"

namespace puzzlefs::format {

/// No stored chunk may unfold to more: four times what FastCDC cuts at most, and a bound on the
/// memory that a hostile image can make a reader allocate.
inline constexpr std::size_t kMaxChunkSize = 1 << 20;

/// Compresses chunks. Holds a zstd context: one object a thread.
class ChunkCompressor {
 public:
  ChunkCompressor();

  /// The seekable form of `chunk`, or nothing when that is not smaller than the chunk itself.
  std::optional<Bytes> compress(ByteView chunk);

 private:
  struct Free {
    void operator()(ZSTD_CCtx* context) const { ZSTD_freeCCtx(context); }
  };
  std::unique_ptr<ZSTD_CCtx, Free> context_;
};

/// Decompresses what ChunkCompressor made, and seek tables with checksums. One object a thread.
class ChunkDecompressor {
 public:
  ChunkDecompressor();

  /// The whole chunk. Throws CorruptError when `stored` is malformed or would unfold to more than
  /// kMaxChunkSize.
  Bytes decompress(ByteView stored);

 private:
  struct Free {
    void operator()(ZSTD_DCtx* context) const { ZSTD_freeDCtx(context); }
  };
  std::unique_ptr<ZSTD_DCtx, Free> context_;
};

}  // namespace puzzlefs::format
