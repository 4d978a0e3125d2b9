// The way from a tree's root down to one of its directories, open all along: how the walk and the
// extraction move through trees of any depth without following a link or leaving the tree.
#pragma once

#include <sys/stat.h>

#include <string>
#include <string_view>
#include <vector>

#include "fetch/file_descriptor.h"

namespace puzzlefs::build {

/// A stack of directories, the root at its bottom. Holds few descriptors however deep it is: those
/// of the root and of the deepest levels; others are opened again on the way back up.
class DirectoryStack {
 public:
  /// `root_path` is for messages. Throws Error.
  DirectoryStack(fetch::FileDescriptor root, std::string root_path);

  /// Goes down into the directory `name` of the current one. A symbolic link or anything else that
  /// is not a directory is an Error.
  void enter(const std::string& name);
  /// Goes back up. Throws Error if the directory there has been replaced meanwhile.
  void leave();

  /// The current directory.
  int fd() const { return levels_.back().fd.get(); }
  int root_fd() const { return levels_.front().fd.get(); }
  /// Its status as it was entered.
  const struct stat& status() const { return levels_.back().status; }
  /// How many levels the current directory lies below the root.
  std::size_t depth() const { return levels_.size() - 1; }

  /// What is in the current directory, sorted by bytes.
  std::vector<std::string> names() const;

  std::string path() const;
  /// The path of `name` in the current directory.
  std::string path_of(std::string_view name) const;

 private:
  struct Level {
    std::string name;  // the root's is its path
    fetch::FileDescriptor fd;
    struct stat status {};
  };

  std::string path_to(std::size_t depth) const;
  void reopen_deepest();

  std::vector<Level> levels_;
};

/// The directory `name` of the directory `parent`, or an empty descriptor with errno set.
fetch::FileDescriptor open_subdirectory(int parent, const char* name);

}  // namespace puzzlefs::build
