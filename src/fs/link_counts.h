// The link counts of an image of version 3, which does not record them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <variant>

#include "fetch/blob_notes.h"
#include "format/bytes.h"
#include "format/metadata.h"

namespace puzzlefs::fetch {
class Image;
}

namespace puzzlefs::fs {

/// What is known only when all of the metadata was walked. A value, movable; in a form that can be
/// kept, and used where it lies. Thread-safe.
class LinkCounts {
 public:
  /// Walks the metadata (see LinkCounter). Throws what looking at it throws if a part of it cannot
  /// be had.
  explicit LinkCounts(const format::Metadata& metadata);
  /// Those that were kept; nothing if the note is of another kind. It may say what it likes.
  static std::optional<LinkCounts> parse(fetch::BlobNote note);

  /// What to keep.
  ByteView note() const;

  /// What stat(2) tells, of a file with several names or a directory with subdirectories; else 0.
  std::uint32_t find(format::InodeNumber number) const;
  /// Inodes that have a name, and the bytes of the regular files among them.
  std::uint64_t inodes() const { return inodes_; }
  std::uint64_t bytes() const { return bytes_; }

 private:
  explicit LinkCounts(std::variant<Bytes, fetch::BlobNote> owner) : owner_(std::move(owner)) {}
  bool read_header();

  std::variant<Bytes, fetch::BlobNote> owner_;
  std::uint64_t inodes_ = 0;
  std::uint64_t bytes_ = 0;
  std::span<const std::uint64_t> numbers_;  // ascending
  std::span<const std::uint32_t> counts_;   // of these
};

/// Those of an image: that its cache has kept, else they are counted, and kept there if it can be.
/// Counting leaves nothing of lazy metadata in memory. Throws as the constructor of LinkCounts.
LinkCounts link_counts(const fetch::Image& image);

}  // namespace puzzlefs::fs
