// The cache of blobs on disk, shared by all mounts and processes of a user. Disposable: whatever is
// wrong with it costs speed, never correctness and never a mount.
#pragma once

#include <atomic>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "fetch/mapped_file.h"
#include "format/bytes.h"
#include "format/digest.h"

namespace puzzlefs::fetch {

class CacheIndex;

/// No blob is larger, whatever an image says of it: a bound on what a hostile one can make a reader
/// allocate or map. A metadata blob of this size would describe about 24 million files.
inline constexpr std::uint64_t kMaxBlobSize = std::uint64_t{4} << 30;

/// $XDG_CACHE_HOME/puzzlefs, else /var/cache/puzzlefs for root and ~/.cache/puzzlefs for others.
/// Empty for a user without a home.
std::filesystem::path default_cache_directory();

/// Blobs as files (`blobs/sha256/<2 hex>/<hex>`), written to a temporary name and renamed, and an
/// LMDB index (`index/`) that knows which blobs there are and which manifest a name stood for last.
/// The index is a hint: a lost or broken one is made anew by a scan of the files. Nothing is
/// flushed to disk: a file that a crash has cut short fails its verification and is fetched again.
/// Thread-safe, and safe to share between processes; open it after fork(). No method throws for a
/// failure of the disk: it warns, once for each kind of trouble, and behaves as if the cache were
/// empty.
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
  enum class Trouble : unsigned { kRead = 1, kWrite = 2, kIndex = 4 };

  std::filesystem::path blob_path(const format::Digest& digest) const;
  template <class T, class Load>
  std::optional<T> load_verified(const format::Digest& digest, Load&& load);
  void write_file(const std::filesystem::path& path, ByteView data) const;
  void quarantine(const format::Digest& digest, const std::string& reason);
  void open_index();
  void use_index(const std::function<void(CacheIndex&)>& use);
  void warn_once(Trouble trouble, const std::string& consequence, const char* reason);

  const std::filesystem::path directory_;
  std::shared_ptr<CacheIndex> index_;  // null if it cannot be used
  std::atomic<unsigned> warned_ = 0;   // Trouble bits
};

}  // namespace puzzlefs::fetch
