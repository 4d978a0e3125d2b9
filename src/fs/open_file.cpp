// The table of pieces of an open file. Metadata has checked that no piece reaches further than any
// chunk, and lists at most as many as fit the blob: sums cannot overflow.
#include "fs/open_file.h"

#include <algorithm>
#include <string>

#include "format/error.h"

namespace puzzlefs::fs {

OpenFile::OpenFile(const format::Inode& inode) : inode_(inode) {
  const auto count = inode.chunk_count();
  std::uint64_t end = 0;
  for (std::uint32_t i = 0; i < count; ++i) {
    const auto size = inode.chunk(i).size;
    if (size == 0) continue;
    end += size;
    pieces_.push_back({.end = end, .index = i});
  }
  pieces_.shrink_to_fit();
  if (end != inode.size()) {
    throw CorruptError("The image is malformed: inode " +
                       std::to_string(format::to_integer(inode.number())) +
                       " has another size than its pieces together.");
  }
}

std::vector<format::ChunkRef> OpenFile::pieces(std::uint64_t offset, std::uint64_t size) const {
  std::vector<format::ChunkRef> result;
  for (auto covered = find(offset); covered != pieces_.end() && size > 0; ++covered) {
    auto piece = inode_.chunk(covered->index);
    const auto skipped = offset - (covered->end - piece.size);
    piece.offset += skipped;
    piece.size = std::min(piece.size - skipped, size);
    offset += piece.size;
    size -= piece.size;
    result.push_back(piece);
  }
  return result;
}

PlacedPiece OpenFile::piece_at(std::uint64_t offset) const {
  const auto place = find(offset);
  const auto piece = inode_.chunk(place->index);
  return {.piece = piece, .offset = place->end - piece.size};
}

/// The piece that `offset` lies in, if it lies in the file.
OpenFile::Position OpenFile::find(std::uint64_t offset) const {
  return std::upper_bound(pieces_.begin(), pieces_.end(), offset,
                          [](std::uint64_t position, const Piece& p) { return position < p.end; });
}

}  // namespace puzzlefs::fs
