// fs-verity digests computed in user space: what Linux would measure for a file with these bytes
// (Documentation/filesystems/fsverity.rst: SHA-256, 4096-byte blocks, no salt, descriptor version
// 1).
#pragma once

#include <cstdint>
#include <vector>

#include "format/bytes.h"
#include "format/digest.h"

namespace puzzlefs::format {

/// Computes the fs-verity digest of a stream in one pass, holding one block per tree level.
/// Not thread-safe; reusable after finish().
class VerityHasher {
 public:
  void update(ByteView data);
  /// The digest of all that was given since construction or the last finish().
  Digest finish();

 private:
  static constexpr std::size_t kBlockSize = 4096;

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

}  // namespace puzzlefs::format
