#include "build/stream_chunks.h"

#include <algorithm>
#include <utility>

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

StreamChunks::StreamChunks(std::vector<format::ChunkRef> chunks) : chunks_(std::move(chunks)) {
  ends_.reserve(chunks_.size());
  std::uint64_t end = 0;
  for (const format::ChunkRef& chunk : chunks_) ends_.push_back(end += chunk.size);
}

std::vector<format::ChunkRef> StreamChunks::pieces(std::uint64_t offset, std::uint64_t size) const {
  std::vector<format::ChunkRef> pieces;
  const std::uint64_t end = offset + size;
  auto place = static_cast<std::size_t>(std::upper_bound(ends_.begin(), ends_.end(), offset) -
                                        ends_.begin());
  while (offset < end) {
    format::ChunkRef piece = chunks_[place];
    piece.offset = offset - (ends_[place] - piece.size);
    piece.size = std::min(end, ends_[place]) - offset;
    offset += piece.size;
    pieces.push_back(piece);
    ++place;
  }
  return pieces;
}

}  // namespace puzzlefs::build
