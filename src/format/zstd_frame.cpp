#include "format/zstd_frame.h"

#include <zstd_errors.h>

#include <new>
#include <string>

#include "format/error.h"

namespace puzzlefs::format {

FrameCompressor::FrameCompressor(int level) : context_(ZSTD_createCCtx()) {
  if (!context_) throw std::bad_alloc();
  ZSTD_CCtx_setParameter(context_.get(), ZSTD_c_compressionLevel, level);
}

std::optional<Bytes> FrameCompressor::compress(ByteView plain) {
  if (plain.size() < 2) return std::nullopt;
  // A frame that does not fit is not smaller.
  const std::size_t most = plain.size() - 1;
  if (room_.size() < most) room_.resize(most);
  const std::size_t size =
      ZSTD_compress2(context_.get(), room_.data(), most, plain.data(), plain.size());
  if (ZSTD_getErrorCode(size) == ZSTD_error_dstSize_tooSmall) return std::nullopt;
  if (ZSTD_isError(size) != 0)
    throw Error(EIO, std::string("zstd cannot compress: ") + ZSTD_getErrorName(size) + ".");
  return Bytes(room_.begin(), room_.begin() + static_cast<std::ptrdiff_t>(size));
}

FrameDecompressor::FrameDecompressor() : context_(ZSTD_createDCtx()) {
  if (!context_) throw std::bad_alloc();
}

Bytes FrameDecompressor::decompress(ByteView frame, std::uint64_t size) {
  Bytes plain(size);
  const std::size_t unfolded =
      ZSTD_decompressDCtx(context_.get(), plain.data(), plain.size(), frame.data(), frame.size());
  if (ZSTD_isError(unfolded) != 0)
    throw CorruptError(std::string("A compressed chunk is malformed: ") +
                       ZSTD_getErrorName(unfolded) + ".");
  if (unfolded != size)
    throw CorruptError("A compressed chunk is malformed: it unfolds to " +
                       std::to_string(unfolded) + " bytes instead of " + std::to_string(size) +
                       ".");
  return plain;
}

}  // namespace puzzlefs::format
