// The inodes of a tree on their way from its walk to the metadata, which is written when all of
// them are known: in scratch files, so that a tree may have any number.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <filesystem>
#include <optional>

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
  /// The scratch files lie on the file system of `directory`.
  explicit InodeSpool(const std::filesystem::path& directory)
      : ascending_(directory), others_(directory) {}

  /// One with a higher number than all before takes no memory, others 16 bytes.
  void add(const SpooledInode& inode);
  std::uint32_t size() const { return size_; }

  /// All are added.
  void sort();
  /// Once sorted: the inode at a place in the order of numbers, counted from 0. To be asked for in
  /// order, as often as one likes.
  SpooledInode get(std::uint32_t place);

 private:
  // Inodes one behind the other.
  class File {
   public:
    explicit File(const std::filesystem::path& directory) : file_(directory) {}

    /// Gives where it is.
    std::uint64_t add(const SpooledInode& inode);
    /// To be called when all are added.
    void finish();
    /// The inode at `offset`, which becomes where the next one is.
    SpooledInode read(std::uint64_t& offset);
    bool has(std::uint64_t offset) const { return offset < file_.size(); }

   private:
    void flush();
    ByteView look_at(std::uint64_t offset, std::size_t size);

    ScratchFile file_;
    Bytes buffer_;                     // what is not in the file yet; when all is, a part of it
    std::uint64_t buffer_offset_ = 0;  // of that part
  };

  struct Place {
    format::InodeNumber number;
    std::uint64_t offset;
  };

  void rewind();
  void read_ahead();

  File ascending_;
  std::optional<format::InodeNumber> highest_;  // in ascending_
  File others_;
  std::deque<Place> places_;  // in others_; it grows without a copy
  std::uint32_t size_ = 0;

  // What get() goes on with.
  std::uint32_t next_ = 0;
  std::uint64_t ascending_offset_ = 0;
  std::optional<SpooledInode> ahead_;  // the next one of ascending_
  std::size_t next_place_ = 0;
};

}  // namespace puzzlefs::build
