// What parts of a large blob are verified by, without reading all of it.
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <utility>
#include <vector>

#include "fetch/file_descriptor.h"
#include "format/bytes.h"
#include "format/digest.h"
#include "format/verity.h"

namespace puzzlefs::fetch {

/// The fs-verity tree of one blob of more than one block: its leaves, in hash blocks of 128 that
/// are read from a file one at a time and verified then, by their digests, which are in memory.
/// Takes no memory once made, and throws nothing. Not thread-safe.
class VerityTree {
 public:
  static constexpr std::size_t kLeaves = format::kVerityBlockSize / format::Digest::kSize;
  /// Of one hash block, the last one filled up with zeros.
  using Leaves = std::array<format::Digest, kLeaves>;

  /// `hash_blocks` are their verified digests. `file` begins with what should be the hash blocks;
  /// it can be mended if it is open for writing.
  VerityTree(FileDescriptor file, std::vector<format::Digest> hash_blocks)
      : file_(std::move(file)), hash_blocks_(std::move(hash_blocks)) {}

  static constexpr std::uint64_t hash_block_count(std::uint64_t blob_size) {
    return format::verity_block_count(format::verity_block_count(blob_size) *
                                      format::Digest::kSize);
  }
  std::size_t hash_block_count() const { return hash_blocks_.size(); }

  /// One more, of the same file. Throws Error.
  VerityTree again() const { return {duplicate(file_), hash_blocks_}; }

  /// False if the file does not have them.
  bool read(std::size_t hash_block, Leaves& leaves);
  /// False if these are not what they should be either; else the file has them from now on, if it
  /// can be written.
  bool mend(std::size_t hash_block, const Leaves& leaves);

 private:
  bool is_right(std::size_t hash_block, const Leaves& leaves);

  FileDescriptor file_;
  std::vector<format::Digest> hash_blocks_;
  format::Sha256 hash_;
};

/// A directory of a cache with fs-verity trees (`trees/<hex of the blob>`): a 127th of what they
/// are of. They are hints: one that does not lead to the blob's fs-verity digest is as good as
/// absent, and each can be made again from its blob. Thread-safe, shared between processes.
class VerityTrees {
 public:
  explicit VerityTrees(std::filesystem::path directory) : directory_(std::move(directory)) {}

  /// The tree of a blob of that size whose fs-verity digest is `verity`.
  std::optional<VerityTree> recall(const format::Digest& blob, std::uint64_t size,
                                   const format::Digest& verity) const;
  /// Makes it from the blob's verified bytes. False if `verity` is not their fs-verity digest.
  /// Throws Error if it cannot be written.
  bool remember(const format::Digest& blob, ByteView bytes, const format::Digest& verity) const;

 private:
  std::filesystem::path directory_;
};

}  // namespace puzzlefs::fetch
