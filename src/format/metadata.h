// The metadata blob of an image, read in place: Metadata and the views it hands out point into the
// blob and copy nothing. All of it is untrusted input: every accessor checks what it touches and
// throws CorruptError, naming the inode, for what is malformed.
#pragma once

#include <capnp/serialize.h>

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string_view>

#include "format/bytes.h"
#include "format/digest.h"
#include "schema/metadata.capnp.h"

namespace puzzlefs::format {

/// Versions of images: with a blob for each chunk, and packed.
inline constexpr std::uint64_t kChunkedVersion = 3;
inline constexpr std::uint64_t kPackedVersion = 4;

/// The number of an inode in its image; 1 is the root directory. Also the FUSE node id.
enum class InodeNumber : std::uint64_t {};
inline constexpr InodeNumber kRootInode{1};

constexpr std::uint64_t to_integer(InodeNumber number) {
  return static_cast<std::uint64_t>(number);
}

/// The longest name in a directory, as Linux has it (NAME_MAX).
inline constexpr std::size_t kMaxNameSize = 255;
/// The longest symbolic link target (PATH_MAX less its NUL).
inline constexpr std::size_t kMaxSymlinkSize = 4095;

enum class FileType : std::uint8_t {
  kFifo,
  kCharacterDevice,
  kDirectory,
  kBlockDevice,
  kRegular,
  kSymlink,
  kSocket,
  kWhiteout,
};

/// The place of a chunk in the table of a packed image (version 4).
enum class ChunkIndex : std::uint32_t {};
/// Of a chunk that is a blob of its own (version 3).
inline constexpr ChunkIndex kNoChunkIndex{0xffffffff};

constexpr std::uint32_t to_integer(ChunkIndex index) {
  return static_cast<std::uint32_t>(index);
}

/// A piece of a file: `size` bytes from `offset` in the uncompressed bytes of a chunk.
struct ChunkRef {
  /// Version 3: of the chunk as stored. Version 4: of the uncompressed chunk.
  Digest blob;
  std::uint64_t offset = 0;
  std::uint64_t size = 0;
  bool compressed = false;  // version 3: stored in the form of chunk_codec.h
  ChunkIndex index = kNoChunkIndex;

  bool operator==(const ChunkRef&) const = default;
};

/// A blob that holds chunks of a packed image one behind the other.
struct Pack {
  Digest digest;
  std::uint64_t size = 0;
  /// The first so many bytes hold what a start was seen to need, in that order.
  std::uint64_t hot_size = 0;

  bool operator==(const Pack&) const = default;
};

/// A chunk of a packed image, and where it is stored.
struct PackedChunk {
  Digest digest;             // of the uncompressed bytes
  std::uint32_t pack = 0;    // index of the pack
  std::uint64_t offset = 0;  // in the pack
  std::uint32_t stored_size = 0;
  std::uint32_t size = 0;  // uncompressed

  /// Whether it is stored as one zstd frame; else as it is.
  bool is_compressed() const { return stored_size < size; }
  bool operator==(const PackedChunk&) const = default;
};

struct DirEntry {
  InodeNumber ino{};
  std::string_view name;  // a valid file name: not empty, no '/', no NUL, not "." or ".."
};

struct Xattr {
  std::string_view key;  // with its namespace, as in "user.note"
  ByteView value;
};

/// Major and minor number of a device.
struct DeviceNumber {
  std::uint32_t major = 0;
  std::uint32_t minor = 0;

  bool operator==(const DeviceNumber&) const = default;
};

/// Tells of a blob of which parts can turn out to be unreadable, so that something else is seen in
/// their place.
struct BlobWatch {
  /// Odd while there is such a part, and another number once it can be read. Null: there never is.
  const std::atomic<std::uint64_t>* state = nullptr;
  /// For who has looked while it was odd: throws what is wrong. If it returns he looks again.
  std::function<void()> on_damage = {};
};

class Metadata;

/// Between two states that are the same and even nothing but the blob's own bytes was seen.
class Look {
 public:
  /// `watch` must outlive it.
  explicit Look(const BlobWatch& watch) : watch_(&watch), before_(state()) {}

  /// Whether what was seen since the construction counts. Throws what is wrong if it cannot be had.
  bool was_right() const;

 private:
  std::uint64_t state() const;

  const BlobWatch* watch_;
  std::uint64_t before_;
};

/// One inode. A view, cheap to copy; lives as long as its Metadata. Thread-safe.
class Inode {
 public:
  Inode(schema::Inode::Reader reader, const Metadata& metadata)
      : reader_(reader), metadata_(&metadata) {}

  InodeNumber number() const;
  FileType type() const;
  std::uint32_t uid() const;
  std::uint32_t gid() const;
  /// The low 12 bits of st_mode.
  std::uint16_t permissions() const;
  /// Of a device; both zero for other types.
  DeviceNumber device() const;

  /// Entries of a directory, 0 for other types. An entry's number may be that of a whiteout.
  std::uint32_t entry_count() const;
  DirEntry entry(std::uint32_t index) const;

  /// Pieces of a regular file in order, 0 for other types.
  std::uint32_t chunk_count() const;
  ChunkRef chunk(std::uint32_t index) const;
  /// Bytes of a regular file or of a link target; 0 for other types. Of a file the recorded size,
  /// which need not be the sum of its pieces in a contrived image; else that sum.
  std::uint64_t size() const;
  /// When it was modified, in nanoseconds since 1970; 0 if that is not recorded.
  std::int64_t mtime() const;
  /// How many names it has, as stat(2) counts them; 0 if that is not recorded.
  std::uint32_t link_count() const;

  /// Empty for other types than symlinks.
  std::string_view symlink_target() const;

  std::uint32_t xattr_count() const;
  Xattr xattr(std::uint32_t index) const;

 private:
  [[noreturn]] void fail(std::string_view what) const;
  std::uint32_t bounded(std::uint32_t count) const;
  template <class Read>
  auto checked(Read&& read) const;

  ChunkRef packed_chunk(schema::FileChunk::Reader piece) const;

  schema::Inode::Reader reader_;
  const Metadata* metadata_;
};

/// The parsed blob. Immutable and thread-safe. Not copyable: views point into it.
class Metadata {
 public:
  /// `blob` must be 8-byte aligned, must not change, and must outlive this object. `watch` is asked
  /// after each look, by inodes too, on any thread. Throws what that throws, and CorruptError if
  /// the blob is not metadata or of a version that this program does not read.
  explicit Metadata(ByteView blob, BlobWatch watch = {});
  Metadata(const Metadata&) = delete;
  Metadata& operator=(const Metadata&) = delete;

  /// 3, or 4 for a packed image.
  std::uint64_t version() const { return version_; }

  /// Packs in the order in which the manifest lists them, and chunks ascending by pack and offset;
  /// none in version 3.
  std::uint32_t pack_count() const;
  Pack pack(std::uint32_t index) const;
  std::uint32_t chunk_count() const;
  PackedChunk chunk(ChunkIndex index) const;

  /// The inode of that number in the topmost layer that has it; nothing if there is none or it is a
  /// whiteout.
  std::optional<Inode> find(InodeNumber number) const;
  /// As find(), but an inode that does not exist throws CorruptError.
  Inode get(InodeNumber number) const;

  /// For those who use names or values that were found: they are views of the blob, of which a part
  /// can be read again meanwhile, and not be right then. What they made of them counts only if the
  /// look, begun before, was_right().
  Look look() const { return Look(watch_); }

  /// Layers, the topmost first, for those who must see all inodes (deltas, link counts).
  std::uint32_t layer_count() const;
  std::uint32_t inode_count(std::uint32_t layer) const;
  Inode inode(std::uint32_t layer, std::uint32_t index) const;
  /// The inode of that number in one layer, a whiteout too.
  std::optional<Inode> find_in_layer(std::uint32_t layer, InodeNumber number) const;

  /// The recorded fs-verity digest of a stored chunk, if there is one.
  std::optional<Digest> verity(const Digest& chunk) const;
  std::uint32_t verity_count() const;
  /// The chunk and its fs-verity digest at `index`, in ascending order of chunks.
  std::pair<Digest, Digest> verity_at(std::uint32_t index) const;

 private:
  friend class Inode;

  std::uint32_t max_elements() const;
  Inode view(schema::Inode::Reader reader) const { return {reader, *this}; }
  template <class Where, class Read>
  auto checked(const Where& where, Read&& read) const;

  ByteView blob_;
  std::uint64_t version_ = 0;
  const BlobWatch watch_;
  std::unique_ptr<capnp::FlatArrayMessageReader> message_;
  schema::Rootfs::Reader rootfs_;
  // To be asked for again and again: the way to a list can lead through a lock of the library.
  std::vector<capnp::List<schema::Inode>::Reader> layers_;
};

}  // namespace puzzlefs::format
