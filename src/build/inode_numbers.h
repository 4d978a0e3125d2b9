// Which number each inode of a tree gets: counted up, or kept from the image that is built upon.
#pragma once

#include <sys/stat.h>

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

#include "format/metadata.h"

namespace puzzlefs::build {

/// The names of a directory of the base and their inodes' numbers. Views into its metadata.
using BaseDirectory = std::unordered_map<std::string_view, format::InodeNumber>;

/// Numbers are asked for in the order of the walk.
class InodeNumbers {
 public:
  /// `base` may be null and must outlive the object.
  explicit InodeNumbers(const format::Metadata* base);

  /// What the base has in the directory of that number; empty if it is none there. Base entries
  /// that are not among `names`, which are sorted, are gone from the tree.
  BaseDirectory enter(format::InodeNumber directory, const std::vector<std::string>& names);

  /// The number of the inode that `name` leads to, and whether no other name had it yet.
  std::pair<format::InodeNumber, bool> number_for(const struct stat& status,
                                                  const BaseDirectory& base,
                                                  const std::string& name);

  /// The numbers that names are gone of and no name has any more, ascending.
  std::vector<format::InodeNumber> whiteouts() const;

 private:
  format::InodeNumber take_number(const BaseDirectory& base, const std::string& name);

  const format::Metadata* base_;
  std::uint64_t next_;
  std::map<std::pair<dev_t, ino_t>, format::InodeNumber> links_;
  std::unordered_set<std::uint64_t> kept_;  // numbers of the base that are taken
  std::set<format::InodeNumber> gone_;
};

}  // namespace puzzlefs::build
