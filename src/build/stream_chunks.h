// Which chunks the parts of a content stream lie in.
#pragma once

#include <cstdint>
#include <vector>

#include "build/chunk_writer.h"
#include "build/pack_writer.h"
#include "format/metadata.h"

namespace puzzlefs::build {

/// The chunks of a stream in its order, each as a piece that is all of it.
std::vector<format::ChunkRef> whole_pieces(const std::vector<StoredChunk>& chunks);
std::vector<format::ChunkRef> whole_pieces(const PackedStream& stream);

/// Immutable; safe from several threads.
class StreamChunks {
 public:
  /// `chunks` are the stream, as whole pieces.
  explicit StreamChunks(std::vector<format::ChunkRef> chunks);

  /// The pieces that `size` bytes of the stream from `offset` on consist of; they must be in it.
  std::vector<format::ChunkRef> pieces(std::uint64_t offset, std::uint64_t size) const;

 private:
  std::vector<format::ChunkRef> chunks_;
  std::vector<std::uint64_t> ends_;  // of chunks_, in the stream
};

}  // namespace puzzlefs::build
