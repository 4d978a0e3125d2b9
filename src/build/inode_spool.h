// The inodes of a tree on their way from its walk to the metadata, which is written when all of
// them are known: in a scratch file, so that a tree may have any number.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <filesystem>

#include "build/scratch_file.h"
#include "format/metadata_writer.h"

namespace puzzlefs::build {

/// A part of a content stream.
struct Extent {
  std::uint64_t offset = 0;
  std::uint64_t size = 0;

  bool operator==(const Extent&) const = default;
};

struct SpooledInode {
  format::InodeRecord record;
  Extent contents;  // empty if its chunks are known, or it has none

  bool operator==(const SpooledInode&) const = default;
};

/// Not thread-safe; methods throw Error when the disk is full.
class InodeSpool {
 public:
  /// The scratch file lies on the file system of `directory`.
  explicit InodeSpool(const std::filesystem::path& directory);

  void add(const SpooledInode& inode);
  std::uint32_t size() const { return static_cast<std::uint32_t>(places_.size()); }

  /// All are added; from now on they are in the order of their numbers.
  void sort();
  /// Once sorted: the inode at a place, counted from 0. Fastest in order.
  SpooledInode get(std::uint32_t place);

 private:
  struct Place {
    format::InodeNumber number;
    std::uint64_t offset;
  };

  void flush();
  ByteView look_at(std::uint64_t offset, std::size_t size);

  ScratchFile file_;
  std::deque<Place> places_;         // it grows without a copy
  Bytes buffer_;                     // what is not in the file yet; once sorted, a part of it
  std::uint64_t buffer_offset_ = 0;  // of that part
};

}  // namespace puzzlefs::build
