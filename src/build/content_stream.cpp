#include "build/content_stream.h"

#include <algorithm>
#include <utility>

#include "build/fastcdc.h"

namespace puzzlefs::build {
namespace {

// A buffer with less room than this is left as it is, so that reads stay large.
constexpr std::size_t kSmallestSpace = 64 << 10;

}  // namespace

ContentStream::ContentStream(BufferPool& buffers, std::function<void(Slice)> on_chunk)
    : buffers_(buffers), on_chunk_(std::move(on_chunk)), buffer_(buffers.take()) {}

std::span<std::byte> ContentStream::space() {
  if (buffer_->size() - end_ < kSmallestSpace) {
    auto next = buffers_.take();
    std::copy(buffer_->data() + begin_, buffer_->data() + end_, next->data());
    buffer_ = std::move(next);
    end_ -= begin_;
    begin_ = 0;
  }
  return std::span(*buffer_).subspan(end_);
}

void ContentStream::append(std::size_t size) {
  end_ += size;
  size_ += size;
  while (end_ - begin_ >= kLongestChunkSize) cut();
}

void ContentStream::end_chunk() {
  while (begin_ < end_) cut();
}

void ContentStream::cut() {
  const ByteView rest = ByteView(*buffer_).subspan(begin_, end_ - begin_);
  const std::size_t size = first_chunk_size(rest);
  on_chunk_({.buffer = buffer_, .bytes = rest.first(size)});
  begin_ += size;
}

}  // namespace puzzlefs::build
