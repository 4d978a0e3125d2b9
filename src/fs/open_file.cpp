// The table of pieces of an open file. Metadata has checked that no piece reaches further than any
// chunk, and lists at most as many as fit the blob: sums cannot overflow.
#include "fs/open_file.h"

#include <algorithm>

namespace puzzlefs::fs {

OpenFile::OpenFile(const format::Inode& inode) : inode_(inode) {
  const auto count = inode.chunk_count();
  ends_.reserve(count);
  std::uint64_t end = 0;
  for (std::uint32_t i = 0; i < count; ++i) {
    end += inode.chunk(i).size;
    ends_.push_back(end);
  }
}

std::vector<format::ChunkRef> OpenFile::pieces(std::uint64_t offset, std::uint64_t size) const {
  std::vector<format::ChunkRef> result;
  auto end = std::upper_bound(ends_.begin(), ends_.end(), offset);
  for (; end != ends_.end() && size > 0; ++end) {
    auto piece = inode_.chunk(static_cast<std::uint32_t>(end - ends_.begin()));
    if (piece.size == 0) continue;
    const auto skipped = offset - (*end - piece.size);
    piece.offset += skipped;
    piece.size = std::min(piece.size - skipped, size);
    offset += piece.size;
    size -= piece.size;
    result.push_back(piece);
  }
  return result;
}

}  // namespace puzzlefs::fs
