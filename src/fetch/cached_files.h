// Whole files in a cache, made of chunks.
#pragma once

#include <atomic>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "fetch/cache_room.h"
#include "fetch/cache_troubles.h"
#include "fetch/cached_recipes.h"
#include "fetch/file_descriptor.h"
#include "fetch/temp_file.h"
#include "format/bytes.h"
#include "format/digest.h"
#include "format/error.h"
#include "format/verity.h"

namespace puzzlefs::fetch {

/// What tells a file that was verified from another one in its place.
struct FileIdentity {
  std::uint64_t device = 0;
  std::uint64_t inode = 0;
  std::uint64_t size = 0;
  std::int64_t birth = 0;  // nanoseconds since 1970; 0 where the file system does not tell

  bool operator==(const FileIdentity&) const = default;
};

/// Open for reading, and not deleted by anybody's eviction as long as it is.
struct CachedFile {
  FileDescriptor file;
  FileIdentity identity;
};

class CachedFiles;

/// A file on its way into the cache. What is given up leaves nothing behind. Methods throw Error.
class NewCachedFile {
 public:
  void write(ByteView data);
  /// All is written. `digest` is set to the fs-verity digest, which is the name of the file; one of
  /// that name is replaced. Call it once.
  CachedFile finish(format::Digest& digest);

 private:
  friend class CachedFiles;
  NewCachedFile(CachedFiles& owner, CacheRoom::Claim claim);

  CachedFiles& owner_;
  CacheRoom::Claim claim_;
  TempFile temp_;
  format::VerityHasher hasher_;
};

/// Files with the bytes that readers see (`files/<2 hex>/<hex>`), named by their fs-verity digest,
/// which the kernel holds them to where it can. They are made of blobs, and can be made again.
/// Thread-safe, shared between processes. Does not verify, unless a method says so. No method but
/// those of NewCachedFile throws for a failure of the disk: it warns, as Cache does.
class CachedFiles {
 public:
  /// Both references must outlive this object.
  CachedFiles(std::filesystem::path cache, CacheRoom& room, CacheTroubles& troubles);

  /// The file of that name, if it is there. A use of it.
  std::optional<CachedFile> open(const format::Digest& digest);
  /// What the kernel holds the file to, if it does.
  std::optional<format::Digest> measure(const CachedFile& file, const format::Digest& digest) const;
  /// Moves a file that is not what its name says to the cache's directory `quarantine`. If it was
  /// to be used, and is not looked for, only the first of all blobs and files is worth a warning.
  void quarantine(const format::Digest& digest, const std::string& reason, bool is_use = true);
  /// Null if there is no room.
  std::unique_ptr<NewCachedFile> create(std::uint64_t size);

  /// The file that was made by a recipe.
  std::optional<format::Digest> recall(const format::Digest& recipe) const {
    return recipes_.recall(recipe);
  }
  void remember(const format::Digest& recipe, const format::Digest& digest);

  /// Reads every file and quarantines those that are not what they should be. `on_file` is told of
  /// each one, and whether it is good. Throws Error if the directory cannot be read.
  void scrub(const std::function<void(std::uint64_t size, bool good)>& on_file);

  /// Tells of what NewCachedFile has thrown.
  void warn_of_write(const Error& error);

 private:
  friend class NewCachedFile;
  std::unique_ptr<NewCachedFile> try_create(std::uint64_t size);
  std::filesystem::path path_of(const format::Digest& digest) const;
  /// From now on the kernel holds the file to its digest, if it can.
  void protect(const FileDescriptor& file, const std::filesystem::path& path,
               const format::Digest& digest);
  void put_in_place(TempFile& file, const format::Digest& digest);

  const std::filesystem::path cache_;
  CacheRoom& room_;
  CacheTroubles& troubles_;
  const CachedRecipes recipes_;
  std::atomic<bool> has_fs_verity_ = true;  // as far as is known
};

}  // namespace puzzlefs::fetch
