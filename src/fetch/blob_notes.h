// What was worked out from all of a large blob, so that nobody need go through it again.
#pragma once

#include <filesystem>
#include <optional>
#include <utility>

#include "fetch/mapped_file.h"
#include "format/bytes.h"
#include "format/digest.h"
#include "format/oci.h"

namespace puzzlefs::fetch {

/// A note, in place. Movable. Bytes of its file that cannot be read any more are zeros, and what
/// changes in the file shows: rely on nothing that was read before.
class BlobNote {
 public:
  /// Page-aligned; as long as this object or the one that it was moved to.
  ByteView bytes() const {
    return file_.bytes().first(file_.bytes().size() - format::Digest::kSize);
  }

 private:
  friend class BlobNotes;
  explicit BlobNote(MappedFile file) : file_(std::move(file)) {}

  MappedFile file_;
};

/// The notes of a cache, beside its verity trees (`trees/<hex of the blob>.note`): at most one for
/// each blob, and no larger than that. They are hints: one that is not as it was written is as good
/// as absent. Nothing tells who has written it, though, so believe none on what could do harm.
/// Thread-safe, shared between processes.
class BlobNotes {
 public:
  explicit BlobNotes(std::filesystem::path directory) : directory_(std::move(directory)) {}

  std::optional<BlobNote> recall(const format::Descriptor& blob) const;
  /// In place of what was kept. Throws Error if it cannot be written.
  void remember(const format::Descriptor& blob, ByteView note) const;

 private:
  std::filesystem::path path_of(const format::Descriptor& blob) const;

  std::filesystem::path directory_;
};

}  // namespace puzzlefs::fetch
