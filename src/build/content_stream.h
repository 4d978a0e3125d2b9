// The contents of all files as one stream, cut into chunks as it grows.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>

#include "build/buffer_pool.h"

namespace puzzlefs::build {

/// The writer reads file contents straight into the stream's buffers; the chunks are slices of
/// them. Only what is left at the end of a buffer, less than a chunk, is copied to the next one.
class ContentStream {
 public:
  /// Buffers for a ContentStream should be of this size: many chunks each.
  static constexpr std::size_t kBufferSize = 4 << 20;

  /// `buffers` must outlive the stream and its chunks, which `on_chunk` gets in order.
  ContentStream(BufferPool& buffers, std::function<void(Slice)> on_chunk);

  /// Where the next bytes of the stream go. Never empty; valid until the next call.
  std::span<std::byte> space();
  /// Takes the first `size` bytes of space() into the stream.
  void append(std::size_t size);
  /// Cuts what is left, so that what comes next begins a chunk. To be called at the end too.
  void end_chunk();

  /// Bytes appended so far.
  std::uint64_t size() const { return size_; }

 private:
  void cut();

  BufferPool& buffers_;
  std::function<void(Slice)> on_chunk_;
  std::shared_ptr<Bytes> buffer_;
  std::size_t begin_ = 0;  // of what is not cut yet, in the buffer
  std::size_t end_ = 0;
  std::uint64_t size_ = 0;
};

}  // namespace puzzlefs::build
