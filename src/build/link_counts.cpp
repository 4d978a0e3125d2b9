#include "build/link_counts.h"

#include <algorithm>

namespace puzzlefs::build {
namespace {

using format::InodeRecord;

// Null if there is none.
InodeRecord* find(std::vector<InodeRecord>& inodes, format::InodeNumber number) {
  const auto place = std::lower_bound(
      inodes.begin(), inodes.end(), number,
      [](const InodeRecord& inode, format::InodeNumber wanted) { return inode.ino < wanted; });
  return place == inodes.end() || place->ino != number ? nullptr : &*place;
}

}  // namespace

void count_links(std::vector<InodeRecord>& inodes) {
  for (InodeRecord& inode : inodes)
    inode.link_count = inode.type == format::FileType::kDirectory ? 2 : 0;
  for (InodeRecord& inode : inodes) {
    for (const format::DirEntryRecord& entry : inode.entries) {
      InodeRecord* const child = find(inodes, entry.ino);
      if (child == nullptr || child->type == format::FileType::kWhiteout) continue;
      const bool is_directory = child->type == format::FileType::kDirectory;
      ++(is_directory ? inode : *child).link_count;
    }
  }
}

}  // namespace puzzlefs::build
