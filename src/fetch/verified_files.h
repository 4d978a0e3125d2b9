// Whole files whose bytes are known to be right.
#pragma once

#include <cstdint>
#include <mutex>
#include <optional>
#include <vector>

#include "fetch/bounded_map.h"
#include "fetch/cache.h"
#include "fetch/cached_files.h"
#include "fetch/chunk_cover.h"
#include "fetch/file_descriptor.h"
#include "fetch/whole_files.h"
#include "format/digest.h"

namespace puzzlefs::fetch {

/// What of a cache's files this process has verified, and the kernel answers for. Thread-safe.
class VerifiedFiles {
 public:
  /// `cache` must outlive this object.
  explicit VerifiedFiles(Cache& cache) : cache_(cache) {}

  struct Found {
    CachedFile file;
    format::Digest digest;     // that it should have
    bool is_verified = false;  // or else its bytes are yet to be hashed
  };

  /// The file of a recipe if it was verified before, without a look at what the cache says of the
  /// recipe. Else an empty descriptor.
  FileDescriptor reopen(const Recipe& recipe);
  /// The file that the cache has for a recipe. One that the kernel measures and that is not what it
  /// should be is quarantined and not found.
  std::optional<Found> find(const Recipe& recipe);
  /// The file of that name, whichever recipe made it.
  std::optional<Found> find(const format::Digest& digest);
  /// Says what the bytes of a file that was found are. Quarantines it, and returns false, if they
  /// are not what they should be.
  bool confirm(const Found& found, const format::Digest& actual);
  /// Whether a file that was found is what it should be. Hashes its bytes unless it is known.
  bool verify(Found& found);
  /// Remembers a verified file as that of a recipe, for this process and for others. Returns
  /// whether it can be: it has the right size.
  bool add(const Recipe& recipe, const format::Digest& digest, const FileIdentity& identity);

  /// A whole file has these pieces, of chunks of these sizes (empty if they are not known): chunks
  /// that are not needed any more become the first that go.
  void cover(const FilePieces& pieces, const std::vector<std::uint32_t>& chunk_sizes);

 private:
  // A file that is forgotten is verified anew when it is opened.
  static constexpr std::size_t kMaxFiles = 256 << 10;

  bool is_verified(const format::Digest& digest, const FileIdentity& identity);

  Cache& cache_;
  std::mutex mutex_;                                               // guards all below
  BoundedMap<format::Digest, format::Digest> recipes_{kMaxFiles};  // key → name of the file
  BoundedMap<format::Digest, FileIdentity> files_{kMaxFiles};      // by name
  ChunkCover chunks_;
};

}  // namespace puzzlefs::fetch
