// Counting the names of every file of an image and the subdirectories of every directory, which
// version 3 of the format does not record.
#pragma once

#include <cstdint>
#include <unordered_map>
#include <vector>

#include "format/metadata.h"

namespace puzzlefs::fs {

/// Walks the merged tree once from its root. Each directory is visited once, so that a cycle ends;
/// malformed inodes are passed over, for whoever looks at them gets the error. Not thread-safe.
class LinkCounter {
 public:
  explicit LinkCounter(const format::Metadata& metadata);

  void walk();

  using Counts = std::unordered_map<std::uint64_t, std::uint32_t>;  // by inode number

  /// The names of files with more than one.
  Counts take_links() { return std::move(links_); }
  /// The subdirectories of directories with any.
  Counts take_subdirectories() { return std::move(subdirectories_); }
  /// Inodes that have a name, and the bytes of the regular files among them.
  std::uint64_t inodes() const { return inodes_; }
  std::uint64_t bytes() const { return bytes_; }

 private:
  void visit(const format::Inode& directory);
  /// Returns whether it is a directory.
  bool count(const format::Inode& inode);
  bool is_first_sight(std::uint64_t number);

  const format::Metadata& metadata_;
  const std::uint64_t max_names_;
  std::vector<format::Inode> pending_;  // directories
  std::vector<bool> seen_;              // by inode number, as far as it reaches
  Counts links_;
  Counts subdirectories_;
  std::uint64_t names_ = 0;
  std::uint64_t inodes_ = 0;
  std::uint64_t bytes_ = 0;
};

}  // namespace puzzlefs::fs
