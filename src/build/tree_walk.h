// Walking a directory tree in the order in which an image numbers and stores it (doc/format.md,
// "How a tree becomes a stream").
#pragma once

#include <sys/stat.h>

#include <filesystem>
#include <string>

#include "format/metadata.h"
#include "format/metadata_writer.h"

namespace puzzlefs::build {

/// A regular file that the walk has come to, open for reading at its start.
struct WalkedFile {
  int fd;  // the walk's; closed after the call
  const struct stat& status;
  const std::string& path;  // for messages
};

/// Whom a walk tells what it comes to.
class TreeVisitor {
 public:
  virtual ~TreeVisitor() = default;
  /// Asked before a file is opened for which the base may have an inode of that number at the same
  /// path: if its contents are known, on_file() is not called.
  virtual bool is_known(const struct stat& /*status*/, format::InodeNumber /*number*/) {
    return false;
  }
  /// The contents of a regular file: of each once, however many links it has, in the order of the
  /// content stream.
  virtual void on_file(const WalkedFile& file) = 0;
  /// An inode, everything filled in but the chunks of a file, right after on_file() or is_known()
  /// of it; its link count is that of the names so far. Directories come after what is in them, but
  /// before what is in their subdirectories.
  virtual void on_inode(format::InodeRecord inode) = 0;
  /// One name more of an inode that is no directory, which on_inode() had.
  virtual void on_link(format::InodeNumber number) = 0;
};

/// Tells `visitor` of all inodes of the tree at `root`. A directory on another file system is taken
/// as an empty one. Trees may be of any depth. Throws Error, naming the file that could not be
/// read.
///
/// With `base`, the tree of an image that this one is a delta to, or null: a path that the base has
/// keeps its number there, new ones come after the base's highest, and a name that is gone gives a
/// whiteout of its number, unless another name still has it.
void walk_tree(const std::filesystem::path& root, const format::Metadata* base,
               TreeVisitor& visitor);

}  // namespace puzzlefs::build
