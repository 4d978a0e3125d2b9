#include "build/link_counts.h"

#include <cstdint>
#include <unordered_map>

namespace puzzlefs::build {

void count_links(std::vector<format::InodeRecord>& inodes) {
  std::unordered_map<format::InodeNumber, format::InodeRecord*> by_number;
  by_number.reserve(inodes.size());
  for (format::InodeRecord& inode : inodes) {
    if (inode.type == format::FileType::kWhiteout) continue;
    inode.link_count = inode.type == format::FileType::kDirectory ? 2 : 0;
    by_number.emplace(inode.ino, &inode);
  }
  for (format::InodeRecord& inode : inodes) {
    for (const format::DirEntryRecord& entry : inode.entries) {
      const auto child = by_number.find(entry.ino);
      if (child == by_number.end()) continue;
      const bool is_directory = child->second->type == format::FileType::kDirectory;
      ++(is_directory ? inode : *child->second).link_count;
    }
  }
}

}  // namespace puzzlefs::build
