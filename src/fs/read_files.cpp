#include "fs/read_files.h"

namespace puzzlefs::fs {

std::shared_ptr<const OpenFile> ReadFiles::get(fuse_ino_t node) {
  const auto inode = metadata_.get(format::InodeNumber{node});
  if (inode.chunk_count() < kManyPieces) return std::make_shared<const OpenFile>(inode);
  {
    const std::lock_guard lock(mutex_);
    if (const auto* const kept = kept_.find(node)) return *kept;
  }
  auto file = std::make_shared<const OpenFile>(inode);
  const std::lock_guard lock(mutex_);
  kept_[node] = file;
  return file;
}

}  // namespace puzzlefs::fs
