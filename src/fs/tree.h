// The tree of one image as a file system sees it: attributes, lookups and link counts, computed
// from the metadata in place.
#pragma once

#include <sys/stat.h>

#include <cstdint>
#include <mutex>
#include <optional>
#include <string_view>
#include <unordered_map>

#include "format/metadata.h"

namespace puzzlefs::fs {

/// The S_IFMT bits of st_mode.
mode_t type_bits(format::FileType type);

/// Thread-safe. Keeps nothing per inode but what cannot be had cheaply: the link counts of files
/// with several names and of directories with subdirectories, and for large directories whether
/// they are sorted.
class Tree {
 public:
  /// `metadata` must outlive the tree.
  explicit Tree(const format::Metadata& metadata) : metadata_(metadata) {}

  const format::Metadata& metadata() const { return metadata_; }

  /// The entry of that name in a directory; nothing if there is none or it leads to a whiteout.
  std::optional<format::Inode> lookup(const format::Inode& directory, std::string_view name);
  /// What stat(2) reports. All times are that of modification, zero where it is not recorded; link
  /// counts are counted where they are not.
  struct stat attributes(const format::Inode& inode);

  /// Totals for statfs(2). A packed image says what it has, and its bytes are those of its packs,
  /// as squashfs and EROFS tell the size of their images. In version 3 it is what can be reached
  /// from the root, counted at first use, and the bytes are those of regular files, each inode
  /// once.
  struct Totals {
    std::uint64_t inodes = 0;
    std::uint64_t bytes = 0;
  };
  Totals totals();

 private:
  bool is_sorted(const format::Inode& directory);
  std::uint32_t link_count(const format::Inode& inode);
  void count_once();

  const format::Metadata& metadata_;
  std::once_flag counted_;
  /// Files with more than one name; constant once counted.
  std::unordered_map<std::uint64_t, std::uint32_t> links_;
  /// Of directories that have any; constant once counted.
  std::unordered_map<std::uint64_t, std::uint32_t> subdirectories_;
  Totals totals_;                                   // constant once counted
  std::mutex sorted_mutex_;                         // guards sorted_
  std::unordered_map<std::uint64_t, bool> sorted_;  // by directory, the large ones
};

}  // namespace puzzlefs::fs
