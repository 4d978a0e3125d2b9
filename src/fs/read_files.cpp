#include "fs/read_files.h"

#include <iterator>
#include <utility>

namespace puzzlefs::fs {

std::shared_ptr<const OpenFile> ReadFiles::get(fuse_ino_t node) {
  const auto inode = metadata_.get(format::InodeNumber{node});
  const std::size_t pieces = inode.chunk_count();
  if (pieces < kManyPieces) return std::make_shared<const OpenFile>(inode);
  {
    const std::lock_guard lock(mutex_);
    if (auto kept = find(node)) return kept;
  }
  auto made = std::make_shared<const OpenFile>(inode);
  const std::lock_guard lock(mutex_);
  if (auto kept = find(node)) return kept;  // somebody else was faster
  kept_.push_back({node, pieces, made});
  by_node_.emplace(node, std::prev(kept_.end()));
  pieces_ += pieces;
  while (pieces_ > max_pieces_ && kept_.size() > 1) {
    pieces_ -= kept_.front().pieces;
    by_node_.erase(kept_.front().node);
    kept_.pop_front();
  }
  return made;
}

std::shared_ptr<const OpenFile> ReadFiles::find(fuse_ino_t node) {
  const auto found = by_node_.find(node);
  if (found == by_node_.end()) return nullptr;
  kept_.splice(kept_.end(), kept_, found->second);
  return found->second->file;
}

}  // namespace puzzlefs::fs
