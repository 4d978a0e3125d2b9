// The tree of one image as a file system sees it: attributes, lookups and link counts, computed
// from the metadata in place.
#pragma once

#include <sys/stat.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <mutex>
#include <optional>
#include <string_view>
#include <unordered_map>
#include <utility>

#include "format/metadata.h"
#include "fs/link_counts.h"

namespace puzzlefs::fs {

/// The S_IFMT bits of st_mode.
mode_t type_bits(format::FileType type);

/// Thread-safe. Keeps nothing per inode but what cannot be had cheaply: link counts where they are
/// not recorded, and for large directories whether they are sorted.
class Tree {
 public:
  using CountLinks = std::function<LinkCounts()>;

  /// `metadata` must outlive the tree. `count_links` is called at the first use of link counts, and
  /// again if it throws, at the first use a second later; without it they are counted.
  explicit Tree(const format::Metadata& metadata, CountLinks count_links = {})
      : metadata_(metadata), count_links_(std::move(count_links)) {}

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
  const LinkCounts& link_counts();
  void count();

  const format::Metadata& metadata_;
  const CountLinks count_links_;  // may be empty
  std::mutex count_mutex_;        // guards the next two until counted_ is set
  std::chrono::steady_clock::time_point next_count_{};
  std::optional<LinkCounts> link_counts_;
  std::atomic<bool> counted_{false};
  std::mutex sorted_mutex_;                         // guards sorted_
  std::unordered_map<std::uint64_t, bool> sorted_;  // by directory, the large ones
};

}  // namespace puzzlefs::fs
