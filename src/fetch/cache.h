// The cache of blobs on disk, shared by all mounts and processes of a user. Disposable: whatever is
// wrong with it costs speed, never correctness and never a mount.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <unordered_set>
#include <vector>

#include "fetch/blob_notes.h"
#include "fetch/cache_eviction.h"
#include "fetch/cache_pins.h"
#include "fetch/cache_room.h"
#include "fetch/cache_troubles.h"
#include "fetch/cached_files.h"
#include "fetch/fetch_claims.h"
#include "fetch/mapped_file.h"
#include "fetch/verity_trees.h"
#include "format/bytes.h"
#include "format/digest.h"

namespace puzzlefs::fetch {

class CacheIndex;

/// A name, and the manifest or index that it stood for last.
struct RememberedName {
  std::string name;
  format::Digest digest;
};

/// No blob is larger, whatever an image says of it: a bound on what a hostile one can make a reader
/// allocate or map. A metadata blob of this size would describe about 24 million files.
inline constexpr std::uint64_t kMaxBlobSize = std::uint64_t{4} << 30;

/// $XDG_CACHE_HOME/puzzlefs, else /var/cache/puzzlefs for root and ~/.cache/puzzlefs for others.
/// Empty for a user without a home.
std::filesystem::path default_cache_directory();

struct CacheInfo {
  std::filesystem::path directory;
  std::uint64_t limit = 0;  // in bytes, as the limits and the file system have it now
  /// What pinned images may take of that: what else is read needs some room, too.
  std::uint64_t most_pinned = 0;
  std::uint64_t free = 0;       // of the file system
  std::uint64_t available = 0;  // of that, beyond what the limits leave free
  CacheContents contents;
};

/// What `Cache::scrub` looks at.
enum class CacheItem { kBlob, kFile };

/// Whether a cache keeps which manifest a name stood for last. Who has no names saves opening the
/// index: some milliseconds, of which architecture.md tells.
enum class CacheNames { kRemember, kIgnore };

/// Blobs as files (`blobs/sha256/<2 hex>/<hex>`), written to a temporary name and renamed, and an
/// LMDB index (`index/`) that knows which manifest a name stood for last. It is a hint: a broken
/// one is made anew, empty. Nothing is flushed to disk: a file that a crash has cut short fails its
/// verification and is fetched again. Beside the blobs it has whole files that were made of them
/// (see CachedFiles), and of large metadata hash trees and notes (see VerityTrees, BlobNotes).
/// When it is nearly full what was used least recently is deleted, on a thread of its own; what
/// does not fit is not kept. A count may miss what is written just then, a blob for each writer,
/// and count twice what is renamed. A file in it has the time of its last use, to about a minute.
/// Thread-safe, and safe to share between processes; open it after fork(). No method throws for a
/// failure of the disk: it warns, once for each kind of trouble, and behaves as if the cache were
/// empty.
class Cache {
 public:
  /// Opens or makes the cache. Never throws for a directory that cannot be used: such a cache holds
  /// nothing and keeps nothing.
  explicit Cache(const std::filesystem::path& directory, const CacheLimits& limits = {},
                 CacheNames names = CacheNames::kRemember);
  ~Cache();  // out of line, where CacheIndex is known
  Cache(const Cache&) = delete;
  Cache& operator=(const Cache&) = delete;

  /// A cached blob, verified against its digest. A blob that fails is quarantined (moved to
  /// `quarantine/`) and counts as absent; the first is logged.
  std::optional<Bytes> read(const format::Digest& digest);
  /// As read(), mapped instead of copied.
  std::optional<MappedFile> map(const format::Digest& digest);
  /// Keeps a blob that was verified by the caller.
  void write(const format::Digest& digest, ByteView data);

  /// Remembers which manifest a name like "host/repo:tag" stood for, for starts without a network.
  void remember(const std::string& name, const format::Digest& manifest);
  std::optional<format::Digest> recall(const std::string& name);
  /// All that is remembered, by name.
  std::vector<RememberedName> names();

  /// Whether the blob is there, unverified.
  bool has(const format::Digest& digest) const;
  /// The blob's file, unverified. A use of it. Empty if it is not there.
  FileDescriptor open(const format::Digest& digest) const;
  VerityTrees trees() const { return VerityTrees(directory_ / "trees"); }
  BlobNotes notes() const { return BlobNotes(directory_ / "trees"); }
  /// Who fetches what, among all who share the cache.
  FetchClaims& claims() { return claims_; }
  /// Makes a blob the first to go when room is needed, until it is used again.
  /// One that is still being written is, when it is there.
  void demote(const format::Digest& digest);
  CachePins pins() const { return CachePins(directory_ / "pins"); }
  /// Counts what is there. Throws Error.
  CacheInfo info();
  /// Deletes the least recently used of what is not pinned until `target` bytes are left. Waits for
  /// others who do so. Throws Error.
  CacheContents shrink(std::uint64_t target) { return room_.shrink(target); }
  /// Reads every blob and every whole file, which does not count as a use, and quarantines those
  /// that are not what they should be. `on_item` is told of each one, and whether it is good.
  /// Throws Error if the directory cannot be read.
  void scrub(const std::function<void(CacheItem, std::uint64_t size, bool good)>& on_item);

  /// Whether the directory could be made.
  bool is_usable() const { return usable_; }
  CachedFiles& files() { return files_; }
  CacheRoom::State room() const { return room_.state(); }
  /// Whether so many bytes find room without anything being deleted for them. Throws Error.
  bool fits(std::uint64_t size) { return room_.fits(size); }

 private:
  std::filesystem::path blob_path(const format::Digest& digest) const;
  void touch(const std::filesystem::path& path) const;
  void demote_if_awaited(const format::Digest& digest);
  template <class T, class Load>
  std::optional<T> load_verified(const format::Digest& digest, Load&& load, bool is_use = true);
  void make_directories() const;
  void keep(const format::Digest& digest, ByteView data);
  void make_directories_for(const std::filesystem::path& blob) const;
  void quarantine(const format::Digest& digest, const std::string& reason, bool is_use);
  void open_index();
  void use_index(const std::function<void(CacheIndex&)>& use);

  const std::filesystem::path directory_;
  bool usable_ = false;
  CacheTroubles troubles_;
  FetchClaims claims_;
  std::shared_ptr<CacheIndex> index_;  // null if it cannot be used

  std::mutex demotion_mutex_;  // guards demote_when_written_
  std::unordered_set<format::Digest> demote_when_written_;

  CacheRoom room_;  // its evictor reads pinned manifests from this cache
  CachedFiles files_;
};

}  // namespace puzzlefs::fetch
