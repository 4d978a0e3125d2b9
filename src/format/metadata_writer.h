// Writing the metadata blob: plain records in, a message out. The order in which objects are
// allocated is that of the Rust puzzlefs 0.2, so that the same tree gives the same bytes
// (doc/format.md).
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "format/capnp_message.h"
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

/// The inodes of a layer, for who writes them.
struct LayerSource {
  std::uint32_t count = 0;
  /// Whether any has a time or a link count.
  bool is_long = false;
  /// The inode at a place, counted from 0; they ascend by number. Who writes metadata asks in
  /// order.
  std::function<InodeRecord(std::uint32_t place)> inode;
};

/// The records, of which each is given out once. They must outlive the source.
LayerSource source_of(std::vector<InodeRecord>& inodes);

/// The metadata blob of version 3 for `layers`, the topmost first, and `verity`, ascending by chunk
/// digest without duplicates. Where any layer is long all inodes are written in their longer form,
/// which other programs read as the shorter one. The message lies in `memory`.
CapnpMessage write_metadata(const std::vector<LayerSource>& layers,
                            const std::vector<VerityRecord>& verity, SegmentMemory& memory);

/// Where the chunks of a packed image are.
struct PackedContents {
  std::vector<Pack> packs;           // in the order in which the manifest lists them
  std::vector<PackedChunk> chunks;   // ascending by pack and offset
  std::vector<VerityRecord> verity;  // of the packs, ascending by digest
};

/// The metadata blob of version 4, of one layer. The pieces of files name chunks by their index in
/// `contents`. Entries of directories must be sorted by name. The message lies in `memory`.
CapnpMessage write_packed_metadata(const LayerSource& inodes, const PackedContents& contents,
                                   SegmentMemory& memory);

}  // namespace puzzlefs::format
