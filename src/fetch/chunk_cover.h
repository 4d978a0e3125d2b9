// How much of each chunk whole files have.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "fetch/bounded_map.h"
#include "format/digest.h"
#include "format/metadata.h"

namespace puzzlefs::fetch {

/// Counts by bytes of the uncompressed chunk. Its memory is bounded: it forgets the chunks that it
/// heard of first, and stops counting on chunks that are covered in too many parts. Not
/// thread-safe.
class ChunkCover {
 public:
  /// Some whole file has this piece, of a chunk of that size; 0 if it is not known. Returns whether
  /// whole files have all of the chunk now.
  bool add(const format::ChunkRef& piece, std::uint64_t chunk_size);

 private:
  struct Interval {
    std::uint64_t begin = 0;
    std::uint64_t end = 0;
  };
  struct Cover {
    std::uint64_t chunk_size = 0;
    std::vector<Interval> intervals;  // ascending, none touches the next
  };
  static constexpr std::size_t kMaxChunks = 64 << 10;
  static constexpr std::size_t kMaxIntervals = 256;

  static void merge(std::vector<Interval>& intervals, Interval added);

  BoundedMap<format::Digest, Cover> chunks_{kMaxChunks};
};

}  // namespace puzzlefs::fetch
