// LMDB underneath, and what to do when it is broken.
//
// Durability: transactions are flushed with MDB_NOMETASYNC, which keeps the database whole over a
// crash of the machine and may lose the last transactions. MDB_NOSYNC would save that flush, but a
// crash could then leave a broken database, and LMDB may end the program on one. So only what
// changes seldom is in it: the name of an image whose tag has moved.
#include "fetch/cache_index.h"

#include <fcntl.h>
#include <signal.h>
#include <spdlog/fmt/fmt.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <map>
#include <mutex>
#include <system_error>
#include <vector>

#include "fetch/file_descriptor.h"
#include "format/error.h"

namespace puzzlefs::fetch {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kMapSize = std::size_t{1}
                                 << 30;  // address space; the file is as large as needed
constexpr off_t kLockFileSize = 8192;    // as LMDB makes it

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

/// For a process whose end by a signal is expected.
void die_silently() {
  constexpr unsigned kPatience = 10;  // seconds
  for (const int number : {SIGABRT, SIGBUS, SIGSEGV, SIGFPE, SIGILL, SIGALRM}) {
    ::signal(number, SIG_DFL);
  }
  sigset_t none;
  ::sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  const rlimit no_core{0, 0};
  ::setrlimit(RLIMIT_CORE, &no_core);
  const int null = ::open("/dev/null", O_WRONLY);
  ::dup2(null, STDERR_FILENO);  // LMDB reports its assertions there
  ::alarm(kPatience);
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
    if (!index_.is_whole()) index_.check(MDB_CORRUPTED, "use");
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

  /// The value of a key, which lives as long as the transaction, or nothing.
  std::optional<ByteView> get(MDB_dbi database, ByteView key) {
    auto key_value = value_of(key);
    MDB_val value{};
    const auto code = mdb_get(transaction_, database, &key_value, &value);
    if (code == MDB_NOTFOUND) return std::nullopt;
    index_.check(code, "read");
    return bytes_of(value);
  }

  /// Calls `found` with each key and its value, which live as long as the call.
  template <class Found>
  void for_each(MDB_dbi database, const Found& found) {
    struct Close {
      void operator()(MDB_cursor* cursor) const { mdb_cursor_close(cursor); }
    };
    MDB_cursor* opened = nullptr;
    index_.check(mdb_cursor_open(transaction_, database, &opened), "read");
    const std::unique_ptr<MDB_cursor, Close> cursor(opened);
    MDB_val key{};
    MDB_val value{};
    int code = 0;
    while ((code = mdb_cursor_get(opened, &key, &value, MDB_NEXT)) == 0) {
      found(bytes_of(key), bytes_of(value));
    }
    if (code != MDB_NOTFOUND) index_.check(code, "read");
  }

  void put(MDB_dbi database, ByteView key, ByteView data) {
    auto key_value = value_of(key);
    auto value = value_of(data);
    index_.check(mdb_put(transaction_, database, &key_value, &value, 0), "write");
  }

 private:
  CacheIndex& index_;
  MDB_txn* transaction_ = nullptr;
};

std::shared_ptr<CacheIndex> CacheIndex::open(const fs::path& directory) {
  struct stat status {};
  if (stat(directory.c_str(), &status) != 0) {
    throw_errno(fmt::format("look at {}", directory.native()));
  }
  const DirectoryId id{status.st_dev, status.st_ino};

  auto& indexes = open_indexes();
  const std::lock_guard lock(indexes.mutex);
  auto& open = indexes.by_directory[id];
  try {
    if (!open.index) open.index.reset(new CacheIndex(directory));
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

CacheIndex::CacheIndex(fs::path directory) : directory_(std::move(directory)) {
  // Held until the index is usable, so that of several programs that find it broken one repairs it.
  const DirectoryLock lock(directory_);
  try {
    check_files();
    if (exists() && !survives_use()) check(MDB_CORRUPTED, "use");
    open_database();
  } catch (const BrokenIndex&) {
    env_.reset();
    delete_database();
    broken_ = false;
    open_database();
  }
}

void CacheIndex::check_files() {
  for (const auto& file : {data_file(), lock_file()}) {
    struct stat status {};
    if (lstat(file.c_str(), &status) == 0 && !S_ISREG(status.st_mode)) {
      check(MDB_INVALID, "open");
    }
  }
}

bool CacheIndex::exists() const {
  return access(data_file().c_str(), F_OK) == 0 || access(lock_file().c_str(), F_OK) == 0;
}

// LMDB trusts its pages: one with other bytes ends the program, by an assertion or a wild pointer.
// So a child does first what is done later; when it ends otherwise than well, so would this. One
// that does not end is tried once more: it may wait for a lock of an allocator, a sanitizer's for
// example, which another thread held when it was forked.
bool CacheIndex::survives_use() {
  constexpr int kAttempts = 2;
  for (int attempt = 0; attempt < kAttempts; ++attempt) {
    const auto status = use_in_child();
    if (!status) return true;  // there is no memory, and nothing to be said of this
    const bool is_late = WIFSIGNALED(*status) && WTERMSIG(*status) == SIGALRM;
    if (!is_late) return WIFEXITED(*status) && WEXITSTATUS(*status) == 0;
  }
  throw Error(EBUSY,
              fmt::format("Somebody keeps the cache's index {} locked.", directory_.native()));
}

// How it ended, as waitpid(2) says it; nothing if there is no child.
std::optional<int> CacheIndex::use_in_child() {
  const pid_t child = ::fork();
  if (child < 0) return std::nullopt;
  if (child == 0) {
    die_silently();
    try {
      open_database(MDB_NOSYNC);  // a slow disk must not look like somebody's lock
      try_all();
      ::_exit(0);
    } catch (const BrokenIndex&) {
      ::_exit(1);
    } catch (...) {
      ::_exit(0);  // no fault of the database; it is reported when this is done again
    }
  }
  int status = 0;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) continue;
  return status;
}

void CacheIndex::try_all() {
  for_each([](const std::string&, const format::Digest&) {});
  Transaction transaction(*this, 0);
  transaction.put(names_, as_bytes(std::string_view("probe")), format::Digest().bytes());
  // Aborted, so that nothing changes.
}

CacheIndex::~CacheIndex() {
  if (!is_whole()) {
    // To close it would touch what is no longer there, and end the program.
    static auto* const abandoned = new std::vector<MDB_env*>();
    abandoned->push_back(env_.release());
  } else if (broken_) {
    discard();
  }
}

// LMDB reads and writes through mappings of its files. They never become shorter but by somebody
// else's doing.
bool CacheIndex::is_whole() const {
  mdb_filehandle_t data = -1;
  struct stat status {};
  if (mdb_env_get_fd(env_.get(), &data) != 0 || fstat(data, &status) != 0) return true;
  if (status.st_size < data_size_) return false;
  const bool has_lock_file = stat(lock_file().c_str(), &status) == 0 && S_ISREG(status.st_mode);
  return !has_lock_file || status.st_size >= kLockFileSize;
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
         stat(data_file().c_str(), &present) == 0 && opened.st_dev == present.st_dev &&
         opened.st_ino == present.st_ino;
}

void CacheIndex::open_database(unsigned flags) {
  MDB_env* env = nullptr;
  check(mdb_env_create(&env), "prepare");
  env_.reset(env);
  check(mdb_env_set_maxdbs(env, 1), "prepare");
  check(mdb_env_set_mapsize(env, kMapSize), "prepare");
  reserve_lock_file(lock_file());
  check(mdb_env_open(env, directory_.c_str(), MDB_NOTLS | MDB_NOMETASYNC | flags, 0600), "open");

  // LMDB reads through a mapping: a page beyond the end of a truncated file would kill the program.
  MDB_envinfo info{};
  MDB_stat status{};
  struct stat file {};
  check(mdb_env_info(env, &info), "open");
  check(mdb_env_stat(env, &status), "open");
  if (stat(data_file().c_str(), &file) != 0) {
    throw_errno(fmt::format("look at {}", data_file().native()));
  }
  const auto pages = static_cast<std::uint64_t>(file.st_size) / status.ms_psize;
  if (info.me_last_pgno >= pages) check(MDB_CORRUPTED, "open");
  data_size_ = file.st_size;

  int dead = 0;
  check(mdb_reader_check(env, &dead), "open");
  Transaction transaction(*this, 0);
  names_ = transaction.open("names");
  transaction.commit();
}

void CacheIndex::delete_database() noexcept {
  // Other processes that have it open go on with the deleted files, both of them.
  std::error_code ignored;
  for (const auto& file : {data_file(), lock_file()}) fs::remove_all(file, ignored);
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

void CacheIndex::for_each(
    const std::function<void(std::string name, const format::Digest&)>& found) {
  Transaction transaction(*this, MDB_RDONLY);
  transaction.for_each(names_, [&found](ByteView name, ByteView digest) {
    if (digest.size() != format::Digest::kSize) return;
    found(std::string(as_text(name)), format::Digest::from_bytes(digest));
  });
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
