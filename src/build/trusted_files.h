// The files of a packed tree that are taken over from its base unread (BuildOptions::trust_mtime).
#pragma once

#include <sys/stat.h>

#include <cstdint>
#include <vector>

#include "build/pack_writer.h"
#include "format/metadata.h"
#include "format/metadata_writer.h"

namespace puzzlefs::build {

/// All of it is for the thread that walks the tree.
class TrustedFiles {
 public:
  /// Of the image `base`, which the writer has too. Both must outlive the object. Throws
  /// CorruptError for malformed metadata.
  TrustedFiles(const format::Metadata& base, PackWriter& writer);

  /// Whether the file with `status` is taken for `base`, the inode that the base has at its path;
  /// `record` is then the place of its own. Throws CorruptError for a malformed base.
  bool take(std::size_t record, const struct stat& status, const format::Inode& base);

  /// Gives the inodes of all files that were taken their pieces, for which `base_chunks` tells
  /// where the chunks of the base are in the new image. To be called once.
  void give(const std::vector<format::ChunkIndex>& base_chunks,
            std::vector<format::InodeRecord>& inodes);

  std::uint64_t count() const { return files_.size(); }
  /// Of all files that were taken.
  std::uint64_t pieces() const { return pieces_; }

 private:
  struct File {
    std::size_t record;
    std::vector<format::ChunkRef> chunks;
  };

  bool is_unchanged(const struct stat& status, const format::Inode& base) const;

  const std::int64_t latest_;  // time of modification in the base
  PackWriter& writer_;
  std::uint64_t pieces_ = 0;
  std::vector<File> files_;
};

}  // namespace puzzlefs::build
