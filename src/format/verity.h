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

/// Computes the fs-verity digest of a stream in one pass. Not thread-safe; reusable after finish().
class VerityHasher {
 public:
  void update(ByteView data);
  /// As well as `content.update(data)`, in one walk over the data.
  void update_with(Sha256& content, ByteView data);
  /// The digest of all that was given since construction or the last finish().
  Digest finish();

 private:
  // The hash tree above the blocks, holding one block a level.
  class Tree {
   public:
    void add(const Digest& block) { add(0, block); }
    // The digest of a file of `size` bytes with the blocks added since the last finish().
    Digest finish(std::uint64_t size);

   private:
    void add(std::size_t level, const Digest& digest);

    std::vector<Bytes> levels_;  // the unfinished hash block of each
  };

  void add_whole_blocks(ByteView& data);
  void count(std::size_t hashed);

  Sha256 block_;            // the unfinished one
  std::size_t filled_ = 0;  // bytes of it
  std::uint64_t size_ = 0;
  Tree tree_;
};

/// What identifies a blob, and what the kernel measures for its file.
struct BlobDigests {
  Digest content;
  Digest verity;
};

/// Computes both digests of a stream in one walk over it. Not thread-safe; reusable after finish().
class BlobHasher {
 public:
  void update(ByteView data) { verity_.update_with(content_, data); }
  BlobDigests finish() { return {.content = content_.finish(), .verity = verity_.finish()}; }

 private:
  Sha256 content_;
  VerityHasher verity_;
};

/// Both digests of `data`.
BlobDigests blob_digests(ByteView data);
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
