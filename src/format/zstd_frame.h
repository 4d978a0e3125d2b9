// Chunks of packs and metadata as single zstd frames (RFC 8878).
#pragma once

#include <zstd.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>

#include "format/bytes.h"

namespace puzzlefs::format {

/// Whether metadata of `size` bytes may be stored as a frame of `frame_size`: names and digests do
/// not shrink to less, and a frame that claims more makes its reader allocate.
constexpr bool may_unfold(std::uint64_t frame_size, std::uint64_t size) {
  constexpr std::uint64_t kMostFolded = 64;
  constexpr std::uint64_t kAlwaysTaken = 1 << 20;
  return size <= kAlwaysTaken || (size - kAlwaysTaken) / kMostFolded <= frame_size;
}

struct FreeContext {
  void operator()(ZSTD_CCtx* context) const { ZSTD_freeCCtx(context); }
};
using ContextPointer = std::unique_ptr<ZSTD_CCtx, FreeContext>;

/// Not thread-safe: one object a thread.
class FrameCompressor {
 public:
  /// The level that packs are written with unless told otherwise, with smaller tables than zstd's.
  /// Of chunks of 64 KiB it saves a hundredth of what level 3 gives, in no more time.
  static constexpr int kDefaultLevel = 4;

  /// `level` is one of zstd's.
  explicit FrameCompressor(int level = kDefaultLevel);

  /// `plain` as one frame, or nothing when that is not smaller. The same bytes, level and release
  /// of zstd give the same frame.
  std::optional<Bytes> compress(ByteView plain);

 private:
  ContextPointer context_;
  Bytes room_;  // for the frame that is being made: kept, since clearing it takes time
};

/// One frame of what is given part by part, in little memory. Not thread-safe. Methods throw what
/// the sink throws.
class FrameStream {
 public:
  /// `size` bytes are going to be given. `sink` gets the frame in parts.
  FrameStream(int level, std::uint64_t size, std::function<void(ByteView)> sink);

  void write(ByteView plain);
  /// To be called once, when all is written. Throws Error if that is not `size` bytes.
  void finish();

 private:
  void compress(ByteView plain, ZSTD_EndDirective directive);

  ContextPointer context_;
  std::function<void(ByteView)> sink_;
  Bytes room_;
};

/// Not thread-safe: one object a thread.
class FrameDecompressor {
 public:
  FrameDecompressor();

  /// What `frame` unfolds to, `size` bytes. Throws CorruptError when it is no frame, or unfolds to
  /// more or less: it never takes more memory than `size` and what zstd needs.
  Bytes decompress(ByteView frame, std::uint64_t size);

 private:
  struct Free {
    void operator()(ZSTD_DCtx* context) const { ZSTD_freeDCtx(context); }
  };
  std::unique_ptr<ZSTD_DCtx, Free> context_;
};

}  // namespace puzzlefs::format
