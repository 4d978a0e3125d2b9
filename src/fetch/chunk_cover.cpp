#include "fetch/chunk_cover.h"

#include <algorithm>
#include <limits>

namespace puzzlefs::fetch {

bool ChunkCover::add(const format::ChunkRef& piece, std::uint64_t chunk_size) {
  // Hostile: no chunk has that.
  if (piece.size > std::numeric_limits<std::uint64_t>::max() - piece.offset) return false;
  auto& cover = chunks_[piece.blob];
  if (chunk_size != 0) cover.chunk_size = chunk_size;
  merge(cover.intervals, {piece.offset, piece.offset + piece.size});
  const auto& first = cover.intervals.front();
  return cover.chunk_size != 0 && first.begin == 0 && first.end >= cover.chunk_size;
}

void ChunkCover::merge(std::vector<Interval>& intervals, Interval added) {
  const auto first = std::find_if(intervals.begin(), intervals.end(),
                                  [&](const Interval& other) { return other.end >= added.begin; });
  auto last = first;
  for (; last != intervals.end() && last->begin <= added.end; ++last) {
    added.begin = std::min(added.begin, last->begin);
    added.end = std::max(added.end, last->end);
  }
  const auto place = intervals.erase(first, last);
  if (intervals.size() < kMaxIntervals) intervals.insert(place, added);
}

}  // namespace puzzlefs::fetch
