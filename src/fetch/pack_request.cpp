// The bytes of a request, cut into chunks.
#include "fetch/pack_request.h"

#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <utility>

#include "format/error.h"
#include "format/zstd_frame.h"

namespace puzzlefs::fetch {
namespace {

Outcome<Bytes> try_unfold(const format::PackedChunk& chunk, Bytes stored) {
  try {
    return chunk_from(chunk, std::move(stored));
  } catch (...) {
    return std::current_exception();
  }
}

}  // namespace

Bytes chunk_from(const format::PackedChunk& chunk, Bytes stored) {
  if (!chunk.is_compressed()) return stored;
  // A context is 160 KB and slow to make. One for each worker, as zstd advises.
  static thread_local format::FrameDecompressor decompressor;
  try {
    return decompressor.decompress(stored, chunk.size);
  } catch (const CorruptError& error) {
    throw CorruptError(fmt::format("The chunk {} cannot be decompressed. {}",
                                   chunk.digest.to_string(), error.what()));
  }
}

ByteRange PackRequest::range() const {
  const auto& last = wanted_.back().chunk;
  const auto begin = wanted_.front().chunk.offset;
  return {begin, last.offset + last.stored_size - begin};
}

Priority PackRequest::priority() const {
  auto urgent = Priority::kBackground;
  for (std::size_t i = next_; i < wanted_.size(); ++i) {
    urgent = std::min(urgent, wanted_[i].priority->load());
  }
  return urgent;
}

bool PackRequest::is_given_up() const {
  bool is_given_up = false;
  for (std::size_t i = next_; i < wanted_.size(); ++i) {
    const auto priority = wanted_[i].priority->load();
    if (priority != Priority::kNobody && priority != Priority::kReadAhead) return false;
    is_given_up = is_given_up || priority == Priority::kNobody;
  }
  return is_given_up;
}

void PackRequest::receive(std::uint64_t offset, ByteView bytes) {
  while (!bytes.empty() && next_ < wanted_.size()) {
    const auto& chunk = wanted_[next_].chunk;
    const auto expected = chunk.offset + stored_.size();
    if (offset > expected || offset + bytes.size() <= expected) return;
    bytes = bytes.subspan(expected - offset);
    const auto size = std::min<std::size_t>(bytes.size(), chunk.stored_size - stored_.size());
    if (stored_.empty()) stored_.reserve(chunk.stored_size);
    stored_.insert(stored_.end(), bytes.begin(), bytes.begin() + static_cast<long>(size));
    bytes = bytes.subspan(size);
    offset = expected + size;
    if (stored_.size() == chunk.stored_size) deliver();
  }
}

void PackRequest::fail(const std::exception_ptr& error) {
  while (next_ < wanted_.size()) {
    runtime_.post([done = std::move(wanted_[next_].done), error] { done(error); });
    ++next_;
  }
}

void PackRequest::deliver() {
  auto& wanted = wanted_[next_];
  runtime_.post([chunk = wanted.chunk, done = std::move(wanted.done),
                 stored = std::make_shared<Bytes>(std::exchange(stored_, {}))] {
    done(try_unfold(chunk, std::move(*stored)));
  });
  ++next_;
}

}  // namespace puzzlefs::fetch
