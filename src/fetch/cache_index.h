// The cache's index in LMDB: which manifest a name stood for last.
#pragma once

#include <lmdb.h>
#include <sys/types.h>

#include <atomic>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "format/digest.h"

namespace puzzlefs::fetch {

/// A hint and never the truth. Thread-safe, and shared between
/// processes by LMDB's own lock. Must be opened after fork(). Every method throws Error when LMDB
/// fails; a database found to be broken is deleted when it is closed.
class CacheIndex {
 public:
  /// The index in `directory`, which must exist. One that is broken is made anew. Users of one
  /// directory in one process share one object, since LMDB forbids a process to open a database
  /// twice.
  static std::shared_ptr<CacheIndex> open(const std::filesystem::path& directory);
  ~CacheIndex();
  CacheIndex(const CacheIndex&) = delete;
  CacheIndex& operator=(const CacheIndex&) = delete;

  /// Names that are empty or too long for LMDB (511 bytes) are not remembered.
  void remember(const std::string& name, const format::Digest& manifest);
  std::optional<format::Digest> recall(const std::string& name);
  /// Tells of all names, in their order. `found` must not use the index.
  void for_each(const std::function<void(std::string name, const format::Digest&)>& found);

 private:
  struct Close {
    void operator()(MDB_env* env) const { mdb_env_close(env); }
  };

  explicit CacheIndex(std::filesystem::path directory);
  std::filesystem::path data_file() const { return directory_ / "data.mdb"; }
  std::filesystem::path lock_file() const { return directory_ / "lock.mdb"; }
  void check_files();
  bool exists() const;
  bool survives_use();
  std::optional<int> use_in_child();
  void try_all();
  void open_database(unsigned flags = 0);
  void delete_database() noexcept;
  /// Closes a broken database and deletes it, unless another process has made it anew already.
  void discard() noexcept;
  bool is_in_place() const;
  bool is_whole() const;
  /// Throws for every code but 0, and remembers that the database is broken.
  void check(int code, const char* doing);

  class Transaction;

  const std::filesystem::path directory_;
  std::unique_ptr<MDB_env, Close> env_;
  MDB_dbi names_ = 0;    // name → digest
  off_t data_size_ = 0;  // when it was opened
  std::atomic<bool> broken_ = false;
};

}  // namespace puzzlefs::fetch
