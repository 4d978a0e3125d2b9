// What parts of a large blob are verified by, without reading all of it.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <utility>
#include <vector>

#include "format/bytes.h"
#include "format/digest.h"

namespace puzzlefs::fetch {

/// A directory of a cache with the leaves of fs-verity trees (`trees/<hex of the blob>`): a 128th
/// of what they are of. They are hints: one that does not lead to the blob's fs-verity digest is as
/// good as absent, and each can be made again from its blob. Thread-safe, shared between processes.
class VerityTrees {
 public:
  explicit VerityTrees(std::filesystem::path directory) : directory_(std::move(directory)) {}

  /// The leaves for a blob of that size whose fs-verity digest is `verity`.
  std::optional<std::vector<format::Digest>> recall(const format::Digest& blob, std::uint64_t size,
                                                    const format::Digest& verity) const;
  /// Makes them from the blob's verified bytes. False if `verity` is not their fs-verity digest.
  /// Throws Error if they cannot be written.
  bool remember(const format::Digest& blob, ByteView bytes, const format::Digest& verity) const;

 private:
  std::filesystem::path directory_;
};

}  // namespace puzzlefs::fetch
