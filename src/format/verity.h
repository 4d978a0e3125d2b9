// fs-verity digests computed in user space: what Linux would measure for a file with these bytes
// (Documentation/filesystems/fsverity.rst: SHA-256, 4096-byte blocks, no salt, descriptor version 1).
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
  void close_block(std::size_t level);

  Sha256 hash_;
  std::vector<Bytes> levels_;  // levels_[0]: the unfinished data block, above it hashes of blocks
  std::uint64_t size_ = 0;
};

/// The fs-verity digest of `data`.
Digest verity_digest(ByteView data);

}  // namespace puzzlefs::format
