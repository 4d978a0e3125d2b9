// The files that are read without having been opened.
#pragma once

#include <cstddef>
#include <memory>
#include <mutex>

#include "fetch/bounded_map.h"
#include "format/metadata.h"
#include "fs/fuse.h"
#include "fs/open_file.h"

namespace puzzlefs::fs {

/// Thread-safe.
class ReadFiles {
 public:
  /// `metadata` must outlive the object.
  explicit ReadFiles(const format::Metadata& metadata) : metadata_(metadata) {}

  /// Where the pieces of a file lie. Throws CorruptError if the inode is malformed.
  std::shared_ptr<const OpenFile> get(fuse_ino_t node);

 private:
  // Who reads a large file comes back many times, and a table of it takes a while.
  static constexpr std::uint32_t kManyPieces = 32;
  static constexpr std::size_t kMaxKept = 64;

  const format::Metadata& metadata_;
  std::mutex mutex_;
  fetch::BoundedMap<fuse_ino_t, std::shared_ptr<const OpenFile>> kept_{kMaxKept};  // by mutex_
};

}  // namespace puzzlefs::fs
