#include "fetch/read_ahead.h"

#include <algorithm>

namespace puzzlefs::fetch {
namespace {

using format::ChunkIndex;

ChunkIndex operator+(ChunkIndex index, std::uint32_t count) {
  return ChunkIndex{format::to_integer(index) + count};
}

ChunkIndex middle(ChunkIndex first, ChunkIndex end) {
  const auto begin = format::to_integer(first);
  return ChunkIndex{begin + (format::to_integer(end) - begin) / 2};
}

}  // namespace

ChunkWindow ReadAhead::on_miss(ChunkIndex chunk) {
  const auto stream = std::find_if(streams_.begin(), streams_.end(),
                                   [&](const Stream& other) { return other.end == chunk; });
  if (stream != streams_.end()) return go_on(stream);
  const bool is_known = std::any_of(streams_.begin(), streams_.end(), [&](const Stream& other) {
    return other.first <= chunk && chunk < other.end;
  });
  if (is_known) return {chunk, chunk + 1};
  const auto size = next_window(chunk);
  const auto window = forward(chunk, size);
  const auto first = behind(chunk, size / kFirstWindow * kBehind);
  streams_.push_front({first, middle(window.first, window.end), window.end, kFirstWindow});
  if (streams_.size() > kMaxStreams) streams_.pop_back();
  return {first, window.end};
}

std::optional<ChunkWindow> ReadAhead::on_hit(ChunkIndex chunk) {
  const auto stream = std::find_if(streams_.begin(), streams_.end(),
                                   [&](const Stream& other) { return other.marker == chunk; });
  if (stream == streams_.end() || format::to_integer(stream->end) >= metadata_.chunk_count()) {
    return std::nullopt;
  }
  if (ends_hot_pack(stream->end)) return std::nullopt;
  return go_on(stream);
}

/// Chunks of a hot pack lie in the order in which a start reads them. What follows the pack has
/// nothing to do with it.
bool ReadAhead::ends_hot_pack(ChunkIndex end) const {
  const auto pack = metadata_.chunk(ChunkIndex{format::to_integer(end) - 1}).pack;
  return metadata_.chunk(end).pack != pack && metadata_.pack(pack).hot_size > 0;
}

ChunkWindow ReadAhead::go_on(std::list<Stream>::iterator stream) {
  streams_.splice(streams_.begin(), streams_, stream);
  stream->size = std::min(2 * stream->size, kLongestWindow);
  const auto window = forward(stream->end, stream->size);
  stream->first = window.first;
  stream->marker = middle(window.first, window.end);
  stream->end = window.end;
  return window;
}

std::uint64_t ReadAhead::next_window(ChunkIndex index) {
  const auto chunk = metadata_.chunk(index);
  const auto number = chunk.offset / kRegion;
  const auto known = std::find_if(regions_.begin(), regions_.end(), [&](const Region& region) {
    return region.pack == chunk.pack && region.number == number;
  });
  if (known == regions_.end()) {
    regions_.push_front({chunk.pack, number, kFirstWindow});
    if (regions_.size() > kMaxRegions) regions_.pop_back();
    return kFirstWindow;
  }
  regions_.splice(regions_.begin(), regions_, known);
  return known->window = std::min(2 * known->window, kWidestWindow);
}

/// At least one chunk.
ChunkWindow ReadAhead::forward(ChunkIndex first, std::uint64_t size) const {
  const auto count = metadata_.chunk_count();
  const auto pack = metadata_.chunk(first).pack;
  std::uint64_t taken = 0;
  auto end = first;
  while (format::to_integer(end) < count) {
    const auto chunk = metadata_.chunk(end);
    if (chunk.pack != pack || (end != first && taken + chunk.stored_size > size)) break;
    taken += chunk.stored_size;
    end = end + 1;
  }
  return {first, end};
}

ChunkIndex ReadAhead::behind(ChunkIndex chunk, std::uint64_t size) const {
  const auto pack = metadata_.chunk(chunk).pack;
  std::uint64_t taken = 0;
  auto first = format::to_integer(chunk);
  while (first > 0) {
    const auto before = metadata_.chunk(ChunkIndex{first - 1});
    if (before.pack != pack || taken + before.stored_size > size) break;
    taken += before.stored_size;
    --first;
  }
  return ChunkIndex{first};
}

ChunkWindow ReadAhead::whole_pack(ChunkIndex chunk) const {
  const auto pack = metadata_.chunk(chunk).pack;
  auto first = format::to_integer(chunk);
  auto end = first + 1;
  while (first > 0 && metadata_.chunk(ChunkIndex{first - 1}).pack == pack) --first;
  while (end < metadata_.chunk_count() && metadata_.chunk(ChunkIndex{end}).pack == pack) ++end;
  return {ChunkIndex{first}, ChunkIndex{end}};
}

}  // namespace puzzlefs::fetch
