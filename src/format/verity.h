// fs-verity digests computed in user space: what Linux would measure for a file with these bytes
// (Documentation/filesystems/fsverity.rst: SHA-256, 4096-byte blocks, no salt, descriptor version
// 1).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "format/bytes.h"
#include "format/digest.h"

namespace puzzlefs::format {

/// A file is hashed in blocks of so many bytes, the last one filled up with zeros.
inline constexpr std::size_t kVerityBlockSize = 4096;

/// Computes the fs-verity digest of a stream in one pass, holding one block per tree level.
/// Not thread-safe; reusable after finish().
class VerityHasher {
 public:
  void update(ByteView data);
  /// The digest of all that was given since construction or the last finish().
  Digest finish();

 private:
  Digest block_digest(ByteView block);
  void add_digest(std::size_t level, const Digest& digest);
  void close_partial_block();

  Sha256 hash_;
  Bytes partial_;              // the unfinished data block
  std::vector<Bytes> levels_;  // the unfinished hash block of each level of the tree
  std::uint64_t size_ = 0;
};

/// The fs-verity digest of `data`.
Digest verity_digest(ByteView data);
/// The digests of its blocks: of a file the leaves of the tree, and of a level of the tree the
/// level above.
std::vector<Digest> verity_blocks(ByteView data);
/// The fs-verity digest of a file of `size` bytes by any level of its tree, which must have as many
/// digests as that level has.
Digest verity_digest(std::vector<Digest> level, std::uint64_t size);

constexpr std::uint64_t verity_block_count(std::uint64_t size) {
  return size / kVerityBlockSize + (size % kVerityBlockSize != 0 ? 1 : 0);
}

}  // namespace puzzlefs::format
