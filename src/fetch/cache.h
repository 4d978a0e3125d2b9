// The cache of blobs on disk, shared by all mounts and processes of a user. Disposable: whatever is
// wrong with it costs speed, never correctness and never a mount.
#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <string>

#include "fetch/mapped_file.h"
#include "format/bytes.h"
#include "format/digest.h"

namespace puzzlefs::fetch {

/// $XDG_CACHE_HOME/puzzlefs or ~/.cache/puzzlefs; /var/cache/puzzlefs for root.
std::filesystem::path default_cache_directory();

/// Blobs as files (`blobs/sha256/<2 hex>/<hex>`), written to a temporary name and renamed, and an
/// LMDB index (`index/`) that knows which blobs there are and which digest a tag had last. The index
/// is a hint: a lost or broken one is made anew by a scan of the files.
/// Thread-safe, and safe to share between processes. No method throws for a failure of the disk: it
/// warns once and behaves as if the cache were empty.
class Cache {
 public:
  /// Opens or makes the cache. Never throws for a directory that cannot be used: such a cache holds
  /// nothing and keeps nothing.
  explicit Cache(const std::filesystem::path& directory);
  ~Cache();
  Cache(const Cache&) = delete;
  Cache& operator=(const Cache&) = delete;

  /// A cached blob, verified against its digest. A blob that fails is quarantined (moved to
  /// `quarantine/`), logged, and counts as absent.
  std::optional<Bytes> read(const format::Digest& digest);
  /// As read(), mapped instead of copied.
  std::optional<MappedFile> map(const format::Digest& digest);
  /// Keeps a blob that was verified by the caller.
  void write(const format::Digest& digest, ByteView data);

  /// Remembers which manifest a name like "host/repo:tag" stood for, for starts without a network.
  void remember(const std::string& name, const format::Digest& manifest);
  std::optional<format::Digest> recall(const std::string& name);

 private:
  class Index;
  std::filesystem::path directory_;
  std::unique_ptr<Index> index_;
};

}  // namespace puzzlefs::fetch
