// LMDB underneath, and what to do when it is broken.
//
// Durability: transactions are flushed with MDB_NOMETASYNC, which keeps the database whole over a
// crash of the machine and may lose the last transactions. MDB_NOSYNC would save that flush, but a
// crash could then leave a broken database, and LMDB may end the program on one. So the flushes are
// made few instead: kBatchSize blobs share one, and a program that is killed loses that many hints.
#include "fetch/cache_index.h"

#include <fcntl.h>
#include <spdlog/fmt/fmt.h>
#include <sys/stat.h>
#include <unistd.h>

#include <chrono>
#include <cstring>
#include <map>

#include "fetch/file_descriptor.h"
#include "format/error.h"

namespace puzzlefs::fetch {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kMapSize = std::size_t{1}
                                 << 30;  // address space; the file is as large as needed
constexpr std::size_t kBatchSize = 256;
constexpr off_t kLockFileSize = 8192;  // as LMDB makes it

/// A failure that a new database would not have.
class BrokenIndex : public Error {
 public:
  using Error::Error;
};

bool is_broken(int code) {
  switch (code) {
    case MDB_INVALID:
    case MDB_VERSION_MISMATCH:
    case MDB_CORRUPTED:
    case MDB_PAGE_NOTFOUND:
    case MDB_PANIC:
    case MDB_INCOMPATIBLE:
    case MDB_BAD_DBI:
    case MDB_MAP_FULL:
      return true;
    default:
      return false;
  }
}

MDB_val value_of(ByteView bytes) {
  // LMDB's interface has no const; it does not write to what it is given.
  return {bytes.size(), const_cast<std::byte*>(bytes.data())};
}

ByteView bytes_of(const MDB_val& value) {
  return {static_cast<const std::byte*>(value.mv_data), value.mv_size};
}

ByteView bytes_of(const CachedBlob& blob) {
  return std::as_bytes(std::span(&blob, 1));
}

/// LMDB makes this file sparse and writes it through a mapping: on a full disk that write would
/// kill the program. Must happen while the database is not open: closing the file drops LMDB's
/// locks.
void reserve_lock_file(const fs::path& path) {
  const FileDescriptor file(open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  if (!file) throw_errno(fmt::format("create {}", path.native()));
  // Not posix_fallocate(): where the file system has no such thing it writes to the file, which
  // another process may have mapped.
  if (fallocate(file.get(), 0, 0, kLockFileSize) == 0 || errno == EOPNOTSUPP) return;
  throw_errno(fmt::format("reserve space for {}", path.native()));
}

bool fits(const std::string& name, MDB_env* env) {
  return !name.empty() && name.size() <= static_cast<std::size_t>(mdb_env_get_maxkeysize(env));
}

using DirectoryId = std::pair<dev_t, ino_t>;

struct OpenIndex {
  std::unique_ptr<CacheIndex> index;
  std::size_t users = 0;
};

/// The indexes that this process has open. LMDB makes them a property of the process: its file
/// locks are, and closing one of two would drop those of the other.
struct OpenIndexes {
  std::mutex mutex;
  std::map<DirectoryId, OpenIndex> by_directory;
};

OpenIndexes& open_indexes() {
  static OpenIndexes indexes;
  return indexes;
}

}  // namespace

/// Aborted on destruction unless committed.
class CacheIndex::Transaction {
 public:
  Transaction(CacheIndex& index, unsigned flags) : index_(index) {
    index_.check(mdb_txn_begin(index_.env_.get(), nullptr, flags, &transaction_), "lock");
  }
  ~Transaction() {
    if (transaction_ != nullptr) mdb_txn_abort(transaction_);
  }
  Transaction(const Transaction&) = delete;
  Transaction& operator=(const Transaction&) = delete;

  void commit() { index_.check(mdb_txn_commit(std::exchange(transaction_, nullptr)), "write"); }

  MDB_dbi open(const char* name) {
    MDB_dbi database = 0;
    index_.check(mdb_dbi_open(transaction_, name, MDB_CREATE, &database), "open");
    return database;
  }

  bool is_empty(MDB_dbi database) {
    MDB_stat status{};
    index_.check(mdb_stat(transaction_, database, &status), "read");
    return status.ms_entries == 0;
  }

  /// The value of a key, which lives as long as the transaction, or nothing.
  std::optional<ByteView> get(MDB_dbi database, ByteView key) {
    auto key_value = value_of(key);
    MDB_val value{};
    const auto code = mdb_get(transaction_, database, &key_value, &value);
    if (code == MDB_NOTFOUND) return std::nullopt;
    index_.check(code, "read");
    return bytes_of(value);
  }

  void put(MDB_dbi database, ByteView key, ByteView data) {
    auto key_value = value_of(key);
    auto value = value_of(data);
    index_.check(mdb_put(transaction_, database, &key_value, &value, 0), "write");
  }

  void remove(MDB_dbi database, ByteView key) {
    auto key_value = value_of(key);
    const auto code = mdb_del(transaction_, database, &key_value, nullptr);
    if (code != MDB_NOTFOUND) index_.check(code, "write");
  }

 private:
  CacheIndex& index_;
  MDB_txn* transaction_ = nullptr;
};

std::shared_ptr<CacheIndex> CacheIndex::open(const fs::path& directory,
                                             const fs::path& blobs_directory) {
  struct stat status {};
  if (stat(directory.c_str(), &status) != 0) {
    throw_errno(fmt::format("look at {}", directory.native()));
  }
  const DirectoryId id{status.st_dev, status.st_ino};

  auto& indexes = open_indexes();
  const std::lock_guard lock(indexes.mutex);
  auto& open = indexes.by_directory[id];
  try {
    if (!open.index) open.index.reset(new CacheIndex(directory, blobs_directory));
  } catch (...) {
    indexes.by_directory.erase(id);
    throw;
  }
  ++open.users;
  return {open.index.get(), [id](CacheIndex*) {
            auto& all = open_indexes();
            const std::lock_guard guard(all.mutex);
            const auto found = all.by_directory.find(id);
            if (--found->second.users == 0) all.by_directory.erase(found);
          }};
}

CacheIndex::CacheIndex(fs::path directory, const fs::path& blobs_directory)
    : directory_(std::move(directory)) {
  // Held until the index is usable, so that of several programs that find it broken one repairs it.
  const DirectoryLock lock(directory_);
  try {
    open_database();
  } catch (const BrokenIndex&) {
    env_.reset();
    delete_database();
    broken_ = false;
    open_database();
  }
  fill(blobs_directory);
}

CacheIndex::~CacheIndex() {
  try {
    flush();
  } catch (const std::exception&) {
    // Hints that are lost; the files are there.
  }
  if (broken_) discard();
}

void CacheIndex::discard() noexcept {
  try {
    const DirectoryLock lock(directory_);
    const bool in_place = is_in_place();  // asked while its inode cannot be given to another file
    env_.reset();
    if (in_place) delete_database();
  } catch (const std::exception&) {
    // Whoever opens it next will find it broken, too.
  }
}

bool CacheIndex::is_in_place() const {
  mdb_filehandle_t file = -1;
  struct stat opened {};
  struct stat present {};
  return mdb_env_get_fd(env_.get(), &file) == 0 && fstat(file, &opened) == 0 &&
         stat((directory_ / "data.mdb").c_str(), &present) == 0 &&
         opened.st_dev == present.st_dev && opened.st_ino == present.st_ino;
}

void CacheIndex::open_database() {
  MDB_env* env = nullptr;
  check(mdb_env_create(&env), "prepare");
  env_.reset(env);
  check(mdb_env_set_maxdbs(env, 2), "prepare");
  check(mdb_env_set_mapsize(env, kMapSize), "prepare");
  reserve_lock_file(directory_ / "lock.mdb");
  check(mdb_env_open(env, directory_.c_str(), MDB_NOTLS | MDB_NOMETASYNC, 0600), "open");

  // LMDB reads through a mapping: a page beyond the end of a truncated file would kill the program.
  MDB_envinfo info{};
  MDB_stat status{};
  struct stat file {};
  check(mdb_env_info(env, &info), "open");
  check(mdb_env_stat(env, &status), "open");
  const auto data_file = directory_ / "data.mdb";
  if (stat(data_file.c_str(), &file) != 0) {
    throw_errno(fmt::format("look at {}", data_file.native()));
  }
  const auto pages = static_cast<std::uint64_t>(file.st_size) / status.ms_psize;
  if (info.me_last_pgno >= pages) check(MDB_CORRUPTED, "open");

  int dead = 0;
  check(mdb_reader_check(env, &dead), "open");
  Transaction transaction(*this, 0);
  blobs_ = transaction.open("blobs");
  names_ = transaction.open("names");
  transaction.commit();
}

void CacheIndex::delete_database() noexcept {
  // Other processes that have it open go on with the deleted files, both of them.
  for (const auto* name : {"data.mdb", "lock.mdb"}) unlink((directory_ / name).c_str());
}

void CacheIndex::fill(const fs::path& blobs_directory) {
  Transaction transaction(*this, 0);
  if (!transaction.is_empty(blobs_)) return;
  std::error_code failure;
  fs::recursive_directory_iterator files(blobs_directory, failure);
  for (; !failure && files != fs::recursive_directory_iterator(); files.increment(failure)) {
    struct stat status {};
    if (lstat(files->path().c_str(), &status) != 0 || !S_ISREG(status.st_mode)) continue;
    try {
      const auto digest = format::Digest::parse_hex(files->path().filename().native());
      const CachedBlob blob{static_cast<std::uint64_t>(status.st_size), status.st_mtime};
      transaction.put(blobs_, digest.bytes(), bytes_of(blob));
    } catch (const CorruptError&) {
      // Not the name of a blob, so not one of ours.
    }
  }
  transaction.commit();
}

void CacheIndex::add(const format::Digest& digest, std::uint64_t size) {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  collect(
      {digest, CachedBlob{size, std::chrono::duration_cast<std::chrono::seconds>(now).count()}});
}

void CacheIndex::remove(const format::Digest& digest) {
  collect({digest, std::nullopt});
}

void CacheIndex::collect(Change change) {
  std::vector<Change> batch;
  {
    const std::lock_guard lock(mutex_);
    pending_.push_back(std::move(change));
    if (pending_.size() < kBatchSize) return;
    batch.swap(pending_);
  }
  write(batch);
}

void CacheIndex::flush() {
  std::vector<Change> batch;
  {
    const std::lock_guard lock(mutex_);
    batch.swap(pending_);
  }
  if (!batch.empty()) write(batch);
}

void CacheIndex::write(const std::vector<Change>& changes) {
  Transaction transaction(*this, 0);
  for (const auto& [digest, blob] : changes) {
    if (blob) {
      transaction.put(blobs_, digest.bytes(), bytes_of(*blob));
    } else {
      transaction.remove(blobs_, digest.bytes());
    }
  }
  transaction.commit();
}

std::optional<CachedBlob> CacheIndex::find(const format::Digest& digest) {
  Transaction transaction(*this, MDB_RDONLY);
  const auto found = transaction.get(blobs_, digest.bytes());
  CachedBlob blob;
  if (!found || found->size() != sizeof blob) return std::nullopt;
  std::memcpy(&blob, found->data(), sizeof blob);
  return blob;
}

void CacheIndex::remember(const std::string& name, const format::Digest& manifest) {
  if (!fits(name, env_.get()) || recall(name) == manifest) return;
  Transaction transaction(*this, 0);
  transaction.put(names_, as_bytes(name), manifest.bytes());
  transaction.commit();
}

std::optional<format::Digest> CacheIndex::recall(const std::string& name) {
  if (!fits(name, env_.get())) return std::nullopt;
  Transaction transaction(*this, MDB_RDONLY);
  const auto found = transaction.get(names_, as_bytes(name));
  if (!found || found->size() != format::Digest::kSize) return std::nullopt;
  return format::Digest::from_bytes(*found);
}

void CacheIndex::check(int code, const char* doing) {
  if (code == 0) return;
  const auto sentence = fmt::format("Cannot {} the cache's index {}: {}.", doing,
                                    directory_.native(), mdb_strerror(code));
  if (!is_broken(code)) throw Error(code > 0 ? code : EIO, sentence);
  broken_ = true;
  throw BrokenIndex(EIO, sentence);
}

}  // namespace puzzlefs::fetch
