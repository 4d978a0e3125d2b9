// An open file: where in it each of its pieces lies.
#pragma once

#include <cstdint>
#include <vector>

#include "format/metadata.h"

namespace puzzlefs::fs {

/// A piece and where in the file it begins.
struct PlacedPiece {
  format::ChunkRef piece;
  std::uint64_t offset = 0;
};

/// Made at open, so that a read is a search and not a scan from the start. Immutable, thread-safe.
class OpenFile {
 public:
  /// Throws CorruptError if a piece is malformed. The inode's metadata must outlive the object.
  explicit OpenFile(const format::Inode& inode);

  format::InodeNumber number() const { return inode_.number(); }
  std::uint64_t size() const { return pieces_.empty() ? 0 : pieces_.back().end; }

  /// The pieces, cut to size, that make up the bytes from `offset` on, `size` of them or as many as
  /// there are. None is empty.
  std::vector<format::ChunkRef> pieces(std::uint64_t offset, std::uint64_t size) const;
  /// The whole piece that the byte at `offset`, which is less than size(), lies in.
  PlacedPiece piece_at(std::uint64_t offset) const;

 private:
  struct Piece {
    std::uint64_t end = 0;    // in the file
    std::uint32_t index = 0;  // in the inode's list
  };

  using Position = std::vector<Piece>::const_iterator;

  Position find(std::uint64_t offset) const;

  format::Inode inode_;
  std::vector<Piece> pieces_;  // without those that are empty
};

}  // namespace puzzlefs::fs
