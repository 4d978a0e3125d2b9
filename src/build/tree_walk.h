// Walking a directory tree in the order in which an image numbers and stores it (doc/format.md,
// "How a tree becomes a stream").
#pragma once

#include <sys/stat.h>

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "format/metadata.h"
#include "format/metadata_writer.h"

namespace puzzlefs::build {

/// A regular file that the walk has come to, open for reading at its start.
struct WalkedFile {
  std::size_t record;  // its index among the records that walk_tree() returns
  int fd;              // the walk's; closed after the call
  const struct stat& status;
  const std::string& path;  // for messages
};

/// What a walk does about regular files: each is told of once, however many links it has, in the
/// order of the content stream.
struct FileVisitor {
  std::function<void(const WalkedFile&)> on_file;
  /// Asked before a file that the base has at the same path, as `base`, is opened: if its contents
  /// are known, on_file is not called. `record` is as in WalkedFile. May be empty.
  std::function<bool(std::size_t record, const struct stat& status, const format::Inode& base)>
      is_known = {};
};

/// The inodes of the tree at `root` in the order of the walk, everything filled in but the chunks
/// of files and link counts. A directory on another file system is taken as an empty one. Trees may
/// be of any depth. Throws Error, naming the file that could not be read.
///
/// With `base`, the tree of an image that this one is a delta to, or null: a path that the base has
/// keeps its number there, new ones come after the base's highest, and a name that is gone gives a
/// whiteout of its number, unless another name still has it.
std::vector<format::InodeRecord> walk_tree(const std::filesystem::path& root,
                                           const format::Metadata* base,
                                           const FileVisitor& visitor);

}  // namespace puzzlefs::build
