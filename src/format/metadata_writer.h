// Writing the metadata blob: plain records in, bytes out. The order in which objects are allocated
// is that of the Rust puzzlefs 0.2, so that the same tree gives the same bytes (doc/format.md).
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "format/metadata.h"

namespace puzzlefs::format {

struct XattrRecord {
  std::string key;
  std::string value;

  bool operator==(const XattrRecord&) const = default;
};

struct DirEntryRecord {
  InodeNumber ino{};
  std::string name;

  bool operator==(const DirEntryRecord&) const = default;
};

/// An inode to be written. Fields that its type does not have stay empty.
struct InodeRecord {
  InodeNumber ino{};
  FileType type = FileType::kRegular;
  std::uint32_t uid = 0;
  std::uint32_t gid = 0;
  std::uint16_t permissions = 0;
  DeviceNumber device;
  std::vector<DirEntryRecord> entries;  // in the order to be written
  std::vector<ChunkRef> chunks;
  std::string symlink_target;
  std::vector<XattrRecord> xattrs;  // in the order to be written
  std::int64_t mtime = 0;           // nanoseconds since 1970
  std::uint32_t link_count = 0;     // 0 if it is not to be recorded

  bool operator==(const InodeRecord&) const = default;
};

/// An inode of existing metadata as a record.
InodeRecord to_record(const Inode& inode);

/// A chunk (as stored) and its fs-verity digest.
using VerityRecord = std::pair<Digest, Digest>;

/// The metadata blob of version 3 for `layers`, the topmost first, each ascending by inode number,
/// and `verity`, ascending by chunk digest without duplicates. Where any inode has a time or a link
/// count all are written in their longer form, which other programs read as the shorter one.
Bytes write_metadata(std::vector<std::vector<InodeRecord>> layers,
                     const std::vector<VerityRecord>& verity);

/// Where the chunks of a packed image are.
struct PackedContents {
  std::vector<Pack> packs;           // in the order in which the manifest lists them
  std::vector<PackedChunk> chunks;   // ascending by pack and offset
  std::vector<VerityRecord> verity;  // of the packs, ascending by digest
};

/// The metadata blob of version 4, of one layer that ascends by inode number. The pieces of files
/// name chunks by their index in `contents`. Entries of directories must be sorted by name.
Bytes write_packed_metadata(std::vector<InodeRecord> inodes, const PackedContents& contents);

}  // namespace puzzlefs::format
