// The files of a packed tree that are taken over from its base unread (BuildOptions::trust_mtime).
#pragma once

#include <sys/stat.h>

#include <cstdint>
#include <optional>
#include <vector>

#include "build/pack_writer.h"
#include "format/metadata.h"

namespace puzzlefs::build {

/// All of it is for the thread that walks the tree.
class TrustedFiles {
 public:
  /// Of the image `base`, which the writer has too. Both must outlive the object. Throws
  /// CorruptError for malformed metadata.
  TrustedFiles(const format::Metadata& base, PackWriter& writer);

  /// The pieces of the inode of that number, if the base has one, at the path of the file with
  /// `status`, and the file is taken for it. Throws CorruptError for a malformed base.
  std::optional<std::vector<format::ChunkRef>> take(const struct stat& status,
                                                    format::InodeNumber number);

  std::uint64_t count() const { return count_; }
  /// Of all files that were taken.
  std::uint64_t pieces() const { return pieces_; }

 private:
  bool is_unchanged(const struct stat& status, const format::Inode& base) const;

  const format::Metadata& base_;
  const std::int64_t latest_;  // time of modification in the base
  PackWriter& writer_;
  std::uint64_t count_ = 0;
  std::uint64_t pieces_ = 0;
};

}  // namespace puzzlefs::build
