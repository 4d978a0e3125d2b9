// The metadata blob of an image, read in place: Metadata and the views it hands out point into the
// blob and copy nothing. All of it is untrusted input: every accessor checks what it touches and
// throws CorruptError, naming the inode, for what is malformed.
#pragma once

#include <capnp/serialize.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string_view>

#include "format/bytes.h"
#include "format/digest.h"
#include "schema/metadata.capnp.h"

namespace puzzlefs::format {

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

/// A piece of a file: `size` bytes from `offset` in the uncompressed bytes of a chunk.
struct ChunkRef {
  Digest blob;  // of the chunk as stored
  std::uint64_t offset = 0;
  std::uint64_t size = 0;
  bool compressed = false;  // stored in the form of chunk_codec.h

  bool operator==(const ChunkRef&) const = default;
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

/// Throws if bytes of the blob that were looked at could not be had, so that something else was
/// seen in their place. An empty one never does.
using IntactCheck = std::function<void()>;

/// One inode. A view, cheap to copy; lives as long as its Metadata. Thread-safe.
class Inode {
 public:
  /// `max_elements` bounds the lists of the inode: no more than its metadata has room for.
  /// `check_intact` is called after each look at the blob and must outlive the inode.
  Inode(schema::Inode::Reader reader, std::uint32_t max_elements, const IntactCheck& check_intact)
      : reader_(reader), max_elements_(max_elements), check_intact_(&check_intact) {}

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
  /// Bytes of a regular file (the sum of its pieces) or of a link target; 0 for other types.
  std::uint64_t size() const;

  /// Empty for other types than symlinks.
  std::string_view symlink_target() const;

  std::uint32_t xattr_count() const;
  Xattr xattr(std::uint32_t index) const;

 private:
  [[noreturn]] void fail(std::string_view what) const;
  std::uint32_t bounded(std::uint32_t count) const;
  template <class Read>
  auto checked(Read&& read) const;

  schema::Inode::Reader reader_;
  std::uint32_t max_elements_;
  const IntactCheck* check_intact_;
};

/// The parsed blob. Immutable and thread-safe. Not copyable: views point into it.
class Metadata {
 public:
  /// `blob` must be 8-byte aligned, must not change, and must outlive this object. `check_intact`
  /// is for a blob of which parts can turn out to be unreadable: it is called after each look, by
  /// inodes too, on any thread. Throws what that throws, and CorruptError if the blob is not
  /// metadata or of a version that this program does not read.
  explicit Metadata(ByteView blob, IntactCheck check_intact = {});
  Metadata(const Metadata&) = delete;
  Metadata& operator=(const Metadata&) = delete;

  /// The inode of that number in the topmost layer that has it; nothing if there is none or it is a
  /// whiteout.
  std::optional<Inode> find(InodeNumber number) const;
  /// As find(), but an inode that does not exist throws CorruptError.
  Inode get(InodeNumber number) const;

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
  std::uint32_t max_elements() const;
  Inode view(schema::Inode::Reader reader) const { return {reader, max_elements(), check_intact_}; }
  template <class Where, class Read>
  auto checked(const Where& where, Read&& read) const;

  ByteView blob_;
  const IntactCheck check_intact_;
  std::unique_ptr<capnp::FlatArrayMessageReader> message_;
  schema::Rootfs::Reader rootfs_;
};

}  // namespace puzzlefs::format
