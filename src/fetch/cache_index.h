// The cache's index in LMDB: which blobs there are, and which manifest a name stood for last.
#pragma once

#include <lmdb.h>

#include <atomic>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "format/digest.h"

namespace puzzlefs::fetch {

/// What the index knows of a cached blob.
struct CachedBlob {
  std::uint64_t size = 0;
  std::int64_t added = 0;  // seconds since the epoch

  bool operator==(const CachedBlob&) const = default;
};

/// A hint and never the truth: blobs may come and go without it. Thread-safe, and shared between
/// processes by LMDB's own lock. Must be opened after fork(). Every method throws Error when LMDB
/// fails; a database found to be broken is deleted when it is closed.
class CacheIndex {
 public:
  /// The index in `directory`, which must exist. One that is broken is made anew, and one that is
  /// empty is filled from the files below `blobs_directory`. Users of one directory in one process
  /// share one object, since LMDB forbids a process to open a database twice.
  static std::shared_ptr<CacheIndex> open(const std::filesystem::path& directory,
                                          const std::filesystem::path& blobs_directory);
  ~CacheIndex();
  CacheIndex(const CacheIndex&) = delete;
  CacheIndex& operator=(const CacheIndex&) = delete;

  /// Records are collected and written many at once, or by flush() or the destructor.
  void add(const format::Digest& digest, std::uint64_t size);
  void remove(const format::Digest& digest);
  std::optional<CachedBlob> find(const format::Digest& digest);
  void flush();

  /// Names that are empty or too long for LMDB (511 bytes) are not remembered.
  void remember(const std::string& name, const format::Digest& manifest);
  std::optional<format::Digest> recall(const std::string& name);

 private:
  struct Close {
    void operator()(MDB_env* env) const { mdb_env_close(env); }
  };
  using Change = std::pair<format::Digest, std::optional<CachedBlob>>;  // nothing: remove it

  CacheIndex(std::filesystem::path directory, const std::filesystem::path& blobs_directory);
  void open_database();
  void delete_database() noexcept;
  /// Closes a broken database and deletes it, unless another process has made it anew already.
  void discard() noexcept;
  bool is_in_place() const;
  void fill(const std::filesystem::path& blobs_directory);
  void collect(Change change);
  void write(const std::vector<Change>& changes);
  /// Throws for every code but 0, and remembers that the database is broken.
  void check(int code, const char* doing);

  class Transaction;

  const std::filesystem::path directory_;
  std::unique_ptr<MDB_env, Close> env_;
  MDB_dbi blobs_ = 0;  // digest → CachedBlob
  MDB_dbi names_ = 0;  // name → digest
  std::atomic<bool> broken_ = false;

  std::mutex mutex_;             // guards pending_
  std::vector<Change> pending_;  // in order
};

}  // namespace puzzlefs::fetch
