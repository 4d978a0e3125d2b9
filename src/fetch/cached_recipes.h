// Which file of a cache is made of which pieces.
#pragma once

#include <atomic>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <utility>

#include "fetch/whole_files.h"
#include "format/digest.h"

namespace puzzlefs::fetch {

/// What a file is made of.
struct Recipe {
  format::Digest key;      // of all its pieces
  std::uint64_t size = 0;  // of the file; the largest number if it is no number
};

Recipe recipe_of(const FilePieces& pieces);

/// Symbolic links (`recipes/<2 hex>/<hex of the key>`), whose target is no path but the fs-verity
/// digest of the file in base64: short enough for a link that takes no block of its own. Whatever
/// is odd about one, it is as good as absent. Thread-safe, shared between processes.
class CachedRecipes {
 public:
  explicit CachedRecipes(std::filesystem::path cache) : cache_(std::move(cache)) {}

  /// The file that was made by a recipe. It may be gone.
  std::optional<format::Digest> recall(const format::Digest& key) const;
  /// Throws Error.
  void remember(const format::Digest& key, const format::Digest& file) const;
  /// Removes those whose files are gone, until `stop`.
  void remove_dangling(const std::atomic<bool>& stop) const;

 private:
  std::filesystem::path cache_;
};

}  // namespace puzzlefs::fetch
