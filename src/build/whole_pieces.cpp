#include "build/whole_pieces.h"

namespace puzzlefs::build {

std::vector<format::ChunkRef> whole_pieces(const std::vector<StoredChunk>& chunks) {
  std::vector<format::ChunkRef> pieces;
  pieces.reserve(chunks.size());
  for (const StoredChunk& chunk : chunks) {
    pieces.push_back({.blob = chunk.digest,
                      .offset = 0,
                      .size = chunk.size,
                      .compressed = chunk.compressed,
                      .index = format::kNoChunkIndex});
  }
  return pieces;
}

std::vector<format::ChunkRef> whole_pieces(const PackedStream& stream) {
  std::vector<format::ChunkRef> pieces;
  pieces.reserve(stream.chunks.size());
  for (const format::ChunkIndex index : stream.chunks) {
    const format::PackedChunk& chunk = stream.contents.chunks[format::to_integer(index)];
    pieces.push_back({.blob = chunk.digest,
                      .offset = 0,
                      .size = chunk.size,
                      .compressed = false,
                      .index = index});
  }
  return pieces;
}

}  // namespace puzzlefs::build
