// Blobs as files of the cache directory. The files are the truth; the index only hears of them.
#include "fetch/cache.h"

#include <fcntl.h>
#include <pwd.h>
#include <spdlog/fmt/fmt.h>
#include <spdlog/spdlog.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <system_error>

#include "fetch/cache_index.h"
#include "fetch/cache_upkeep.h"
#include "fetch/file_descriptor.h"
#include "fetch/temp_file.h"
#include "format/error.h"

namespace puzzlefs::fetch {
namespace {

namespace fs = std::filesystem;
using std::chrono::hours;

constexpr mode_t kFileMode = 0600;
constexpr hours kQuarantineLife{24 * 30};  // long enough for somebody to look
constexpr hours kTreeLife{24 * 30};        // since it was used; made anew in a second
constexpr std::string_view kTempFilePrefix = ".tmp-";

/// Whether a blob's file itself is what cannot be read, so that another in its place could be.
bool is_damage(int code) {
  return code == EINVAL || code == EIO || code == EUCLEAN || code == ELOOP;
}

fs::path home_directory() {
  if (const char* home = std::getenv("HOME"); home != nullptr && *home == '/') return home;
  std::array<char, 4096> buffer{};
  passwd entry{};
  passwd* found = nullptr;
  getpwuid_r(geteuid(), &entry, buffer.data(), buffer.size(), &found);
  return found != nullptr ? fs::path(found->pw_dir) : fs::path();
}

bool is_there(const fs::path& path) {
  struct stat status {};
  return ::lstat(path.c_str(), &status) == 0;
}

bool set_time_long_ago(const fs::path& path) {
  constexpr std::array<timespec, 2> kLongAgo{};
  return ::utimensat(AT_FDCWD, path.c_str(), kLongAgo.data(), 0) == 0;
}

ByteView view(const Bytes& bytes) {
  return bytes;
}
ByteView view(const MappedFile& file) {
  return file.bytes();
}

// The fan-out directories are made as they are needed.
void put_in_place(TempFile& file, const fs::path& path) {
  try {
    file.rename_to(path);
  } catch (const Error& error) {
    if (error.code() != ENOENT) throw;
    make_directory(path.parent_path());
    file.rename_to(path);
  }
}

}  // namespace

fs::path default_cache_directory() {
  const char* base = std::getenv("XDG_CACHE_HOME");
  if (base != nullptr && *base == '/') return fs::path(base) / "puzzlefs";
  if (geteuid() == 0) return "/var/cache/puzzlefs";
  const auto home = home_directory();
  return home.empty() ? fs::path() : home / ".cache" / "puzzlefs";
}

Cache::Cache(const fs::path& directory, const CacheLimits& limits, CacheNames names)
    : directory_(directory),
      claims_(directory.empty() ? directory : directory / "claims"),
      room_(directory, limits, troubles_,
            [this] {
              return pins().blobs([this](const format::Digest& digest) { return read(digest); });
            }),
      files_(directory, room_, troubles_) {
  try {
    if (directory_.empty()) throw Error(ENOENT, "There is no directory for a cache.");
    std::error_code ignored;  // make_directory() reports it, if it matters
    fs::create_directories(directory_.parent_path(), ignored);
    make_directory(directory_);
    // All that is kept comes from tmp/, also where the cache was deleted under a running program.
    const auto is_new = [this] {
      return !is_there(directory_ / "tmp") && !is_there(directory_ / "blobs");
    };
    room_.begin(is_new, [this] { make_directories(); });
    remove_older_than(kTempFileLife, directory_ / "tmp");
    remove_older_than(kTempFileLife, directory_ / "pins", kTempFilePrefix);
    remove_older_than(kQuarantineLife, directory_ / "quarantine");
    remove_older_than(kTreeLife, directory_ / "trees");
  } catch (const Error& error) {
    troubles_.warn_once(CacheTrouble::kWrite, "Nothing is kept in the cache", error.what());
    return;
  }
  usable_ = true;
  if (names == CacheNames::kRemember) open_index();
}

Cache::~Cache() = default;

void Cache::make_directories() const {
  for (const auto* name : {"quarantine", "tmp", "blobs", "blobs/sha256", "files", "recipes",
                           "index", "pins", "trees"}) {
    ensure_directory(directory_ / name, directory_ / "quarantine");
  }
}

std::optional<Bytes> Cache::read(const format::Digest& digest) {
  return load_verified<Bytes>(digest,
                              [](const fs::path& path) { return read_file(path, kMaxBlobSize); });
}

std::optional<MappedFile> Cache::map(const format::Digest& digest) {
  return load_verified<MappedFile>(digest, [](const fs::path& path) { return MappedFile(path); });
}

FileDescriptor Cache::open(const format::Digest& digest) const {
  const auto path = blob_path(digest);
  try {
    auto file = open_regular_file(path);
    touch(path);
    return file;
  } catch (const Error&) {
    return {};
  }
}

void Cache::write(const format::Digest& digest, ByteView data) {
  if (directory_.empty()) return;  // the constructor has warned of it
  try {
    try {
      keep(digest, data);
    } catch (const Error& error) {
      if (error.code() != ENOENT && error.code() != ENOTDIR) throw;
      make_directories_for(blob_path(digest));
      keep(digest, data);
    }
  } catch (const Error& error) {
    troubles_.warn_once(CacheTrouble::kWrite, "What is fetched is not kept in the cache",
                        error.what());
  }
}

void Cache::keep(const format::Digest& digest, ByteView data) {
  // What was got although it is here, as a manifest by its tag, replaces a damaged one.
  if (has(digest) && read(digest)) return;
  auto claim = room_.claim(data.size());
  if (!claim) return;
  TempFile file(directory_ / "tmp", kFileMode);
  file.write(data);
  put_in_place(file, blob_path(digest));
  claim.use();
  demote_if_awaited(digest);
}

// The cache of a running program may be deleted.
void Cache::make_directories_for(const fs::path& blob) const {
  make_directory(directory_);
  const auto refuge = directory_ / "quarantine";
  for (const auto& directory : {refuge, directory_ / "tmp", directory_ / "blobs",
                                directory_ / "blobs/sha256", blob.parent_path()}) {
    ensure_directory(directory, refuge);
  }
}

bool Cache::has(const format::Digest& digest) const {
  return ::access(blob_path(digest).c_str(), F_OK) == 0;
}

void Cache::demote(const format::Digest& digest) {
  constexpr std::size_t kMaxAwaited = 4096;  // a blob that is not kept is awaited for ever
  const std::lock_guard lock(demotion_mutex_);
  if (set_time_long_ago(blob_path(digest)) || errno != ENOENT) return;
  if (demote_when_written_.size() == kMaxAwaited) demote_when_written_.clear();
  demote_when_written_.insert(digest);
}

void Cache::demote_if_awaited(const format::Digest& digest) {
  const std::lock_guard lock(demotion_mutex_);
  if (demote_when_written_.erase(digest) > 0) set_time_long_ago(blob_path(digest));
}

CacheInfo Cache::info() {
  const auto now = room_.state();
  return {.directory = directory_,
          .limit = now.limit,
          .most_pinned = now.most_pinned,
          .free = now.free,
          .available = now.available,
          .contents = room_.count()};
}

void Cache::scrub(const std::function<void(CacheItem, std::uint64_t, bool)>& on_item) {
  for (const auto& [digest, size] : list_blobs(directory_)) {
    constexpr bool kIsUse = false;  // or else the next to go would be chosen by the scrub's order
    const bool good = load_verified<MappedFile>(
                          digest, [](const fs::path& path) { return MappedFile(path); }, kIsUse)
                          .has_value();
    if (good || !has(digest)) on_item(CacheItem::kBlob, size, good);
  }
  files_.scrub([&](std::uint64_t size, bool good) { on_item(CacheItem::kFile, size, good); });
}

void Cache::touch(const fs::path& path) const {
  struct stat status {};
  if (::stat(path.c_str(), &status) != 0 || !is_use_outdated(status.st_mtime)) return;
  ::utimensat(AT_FDCWD, path.c_str(), nullptr, 0);
}

void Cache::remember(const std::string& name, const format::Digest& manifest) {
  use_index([&](CacheIndex& index) { index.remember(name, manifest); });
}

std::optional<format::Digest> Cache::recall(const std::string& name) {
  std::optional<format::Digest> manifest;
  use_index([&](CacheIndex& index) { manifest = index.recall(name); });
  return manifest;
}

std::vector<RememberedName> Cache::names() {
  std::vector<RememberedName> names;
  use_index([&](CacheIndex& index) {
    index.for_each([&](std::string name, const format::Digest& digest) {
      names.push_back({std::move(name), digest});
    });
  });
  return names;
}

fs::path Cache::blob_path(const format::Digest& digest) const {
  const auto hex = digest.hex();
  return directory_ / "blobs" / "sha256" / hex.substr(0, 2) / hex;
}

template <class T, class Load>
std::optional<T> Cache::load_verified(const format::Digest& digest, Load&& load, bool is_use) {
  try {
    const auto path = blob_path(digest);
    std::optional<T> loaded(load(path));
    if (format::sha256(view(*loaded)) == digest) {
      if (is_use) touch(path);
      return loaded;
    }
    quarantine(digest, "Its bytes have changed.", is_use);
  } catch (const NotFoundError&) {
    // The ordinary miss.
  } catch (const CorruptError& error) {
    quarantine(digest, error.what(), is_use);
  } catch (const Error& error) {
    if (is_damage(error.code())) {
      quarantine(digest, error.what(), is_use);
      return std::nullopt;
    }
    troubles_.warn_once(CacheTrouble::kRead, "The cache cannot be read", error.what());
  }
  return std::nullopt;
}

void Cache::quarantine(const format::Digest& digest, const std::string& reason, bool is_use) {
  const auto path = blob_path(digest);
  const auto refuge = directory_ / "quarantine" / digest.hex();
  troubles_.tell_of_damage("The cached blob " + digest.to_string(), refuge, reason, is_use);
  if (rename(path.c_str(), refuge.c_str()) != 0) unlink(path.c_str());
}

void Cache::open_index() {
  try {
    index_ = CacheIndex::open(directory_ / "index");
  } catch (const Error& error) {
    troubles_.warn_once(CacheTrouble::kIndex, "The cache works without its index", error.what());
  }
}

void Cache::use_index(const std::function<void(CacheIndex&)>& use) {
  if (!index_) return;
  try {
    use(*index_);
  } catch (const Error& error) {
    troubles_.warn_once(CacheTrouble::kIndex, "The cache works without its index", error.what());
  }
}

}  // namespace puzzlefs::fetch
