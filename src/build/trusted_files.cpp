#include "build/trusted_files.h"

#include <utility>

#include "format/nanoseconds.h"

namespace puzzlefs::build {
namespace {

// A contrived base may have fewer bytes for a file than it says.
bool covers_size(const format::Inode& inode) {
  std::uint64_t size = 0;
  for (std::uint32_t i = 0; i < inode.chunk_count(); ++i) size += inode.chunk(i).size;
  return size == inode.size();
}

}  // namespace

bool TrustedFiles::take(std::size_t record, const struct stat& status, const format::Inode& base) {
  if (!is_unchanged(status, base)) return false;
  File& file = files_.emplace_back(File{record, {}});
  for (std::uint32_t i = 0; i < base.chunk_count(); ++i) {
    file.chunks.push_back(base.chunk(i));
    writer_.keep(file.chunks.back().index);
  }
  return true;
}

bool TrustedFiles::is_unchanged(const struct stat& status, const format::Inode& base) const {
  const auto mtime = format::to_nanoseconds(status.st_mtim);
  if (base.type() != format::FileType::kRegular || mtime == 0 || base.mtime() != mtime ||
      base.size() != static_cast<std::uint64_t>(status.st_size)) {
    return false;
  }
  // The epoch may stand for any later time.
  const bool is_epoch = rule_.kind == Timestamps::kClamp && status.st_mtim.tv_nsec == 0 &&
                        status.st_mtim.tv_sec == rule_.epoch;
  return !is_epoch && covers_size(base);
}

void TrustedFiles::give(const std::vector<format::ChunkIndex>& base_chunks,
                        std::vector<format::InodeRecord>& inodes) {
  for (File& file : files_) {
    for (format::ChunkRef& piece : file.chunks)
      piece.index = base_chunks[format::to_integer(piece.index)];
    inodes[file.record].chunks = std::move(file.chunks);
  }
}

}  // namespace puzzlefs::build
