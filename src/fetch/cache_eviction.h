// Making room in the cache: what was not used for longest goes first.
#pragma once

#include <atomic>
#include <cstdint>
#include <ctime>
#include <filesystem>
#include <unordered_set>
#include <vector>

#include "fetch/cache_usage.h"
#include "format/digest.h"

namespace puzzlefs::fetch {

/// What a file of that size takes up, as the cache counts it: whole blocks of 4 KiB.
std::uint64_t disk_size(std::uint64_t size);

/// Whether a file that was last used then, as its time of modification says, and is used again now
/// should be marked so: to about a minute.
bool is_use_outdated(std::time_t used);

struct CacheContents {
  std::uint64_t blobs = 0;
  std::uint64_t files = 0;          // whole ones, made of blobs
  std::uint64_t bytes = 0;          // by disk_size(), of all this, quarantine and temporary files
  std::uint64_t quarantined = 0;    // blobs and files
  std::uint64_t removed = 0;        // blobs that were deleted
  std::uint64_t removed_files = 0;  // whole files that were deleted
  std::uint64_t freed = 0;          // bytes of all that was deleted
};

/// A blob, or a whole file with its fs-verity digest.
struct CachedItem {
  format::Digest digest;
  std::uint64_t size = 0;
};

/// The blobs and the whole files that a cache holds, by the names of their files.
std::vector<CachedItem> list_blobs(const std::filesystem::path& directory);
std::vector<CachedItem> list_files(const std::filesystem::path& directory);

/// Counts the files of a cache, and deletes quarantined ones and then blobs and whole files, the
/// least recently used (modified) first, until no more than `target` bytes are left or only `kept`
/// blobs are and whole files that are in use, see CachedFiles. Stops early, with what it has found
/// so far, when `stop` becomes true. Sets the usage. Throws Error when the usage cannot be set;
/// files that cannot be deleted stay and count.
CacheContents shrink_cache(const std::filesystem::path& directory, CacheUsage& usage,
                           std::uint64_t target, const std::unordered_set<format::Digest>& kept,
                           const std::atomic<bool>& stop);

}  // namespace puzzlefs::fetch
