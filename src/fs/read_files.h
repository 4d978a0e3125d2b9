// The files that are read without having been opened.
#pragma once

#include <cstddef>
#include <cstdint>
#include <list>
#include <memory>
#include <mutex>
#include <unordered_map>

#include "format/metadata.h"
#include "fs/fuse.h"
#include "fs/open_file.h"

namespace puzzlefs::fs {

/// Thread-safe.
class ReadFiles {
 public:
  /// `metadata` must outlive the object. Tables of at most `max_pieces` pieces in all are kept, and
  /// in any case the last one.
  explicit ReadFiles(const format::Metadata& metadata, std::size_t max_pieces = 1 << 20)
      : metadata_(metadata), max_pieces_(max_pieces) {}

  /// Where the pieces of a file lie. Throws CorruptError if the inode is malformed.
  std::shared_ptr<const OpenFile> get(fuse_ino_t node);

 private:
  // Who reads a large file comes back many times, and a table of it takes a while.
  static constexpr std::uint32_t kManyPieces = 256;

  struct Kept {
    fuse_ino_t node;
    std::size_t pieces;
    std::shared_ptr<const OpenFile> file;
  };
  using KeptList = std::list<Kept>;

  std::shared_ptr<const OpenFile> find(fuse_ino_t node);  // with mutex_ held

  const format::Metadata& metadata_;
  const std::size_t max_pieces_;
  std::mutex mutex_;  // guards all below
  KeptList kept_;     // what was read last comes last
  std::unordered_map<fuse_ino_t, KeptList::iterator> by_node_;
  std::size_t pieces_ = 0;  // of all that are kept
};

}  // namespace puzzlefs::fs
