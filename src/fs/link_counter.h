// Counting the names of every file of an image and the subdirectories of every directory, which
// version 3 of the format does not record.
#pragma once

#include <cstdint>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "format/metadata.h"

namespace puzzlefs::fs {

/// Walks the merged tree once from its root. Each directory is visited once, so that a cycle ends;
/// malformed inodes are passed over, for whoever looks at them gets the error. Not thread-safe.
class LinkCounter {
 public:
  explicit LinkCounter(const format::Metadata& metadata);

  /// Throws what looking at the metadata throws if a part of it cannot be had.
  void walk();

  /// By inode number, what stat(2) tells: the names of files with more than one, and 2 and the
  /// subdirectories of directories with any.
  const std::unordered_map<std::uint64_t, std::uint32_t>& counts() const { return counts_; }
  /// Inodes that have a name, and the bytes of the regular files among them.
  std::uint64_t inodes() const { return inodes_; }
  std::uint64_t bytes() const { return bytes_; }

 private:
  void visit(const format::Inode& directory);
  /// Returns whether it is a directory.
  bool count(const format::Inode& inode);
  bool is_first_sight(std::uint64_t number);
  /// To its count, which is `start` before.
  void add_one(const format::Inode& inode, std::uint32_t start);

  const format::Metadata& metadata_;
  const std::uint64_t max_names_;
  std::vector<format::Inode> pending_;  // directories
  std::vector<bool> seen_;              // by inode number, as far as it reaches
  std::unordered_set<std::uint64_t> seen_beyond_;
  std::unordered_map<std::uint64_t, std::uint32_t> counts_;
  std::uint64_t names_ = 0;
  std::uint64_t inodes_ = 0;
  std::uint64_t bytes_ = 0;
};

}  // namespace puzzlefs::fs
