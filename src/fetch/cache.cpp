// Blobs as files of the cache directory. The files are the truth; the index only hears of them.
#include "fetch/cache.h"

#include <pwd.h>
#include <spdlog/fmt/fmt.h>
#include <spdlog/spdlog.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <cstdlib>

#include "fetch/cache_index.h"
#include "fetch/file_descriptor.h"
#include "format/error.h"

namespace puzzlefs::fetch {
namespace {

namespace fs = std::filesystem;
using std::chrono::hours;

constexpr mode_t kDirectoryMode = 0700;  // an image may be private
constexpr mode_t kFileMode = 0600;
constexpr hours kTempFileLife{24};         // no write takes this long: its program was killed
constexpr hours kQuarantineLife{24 * 30};  // long enough for somebody to look

void make_directory(const fs::path& path) {
  if (mkdir(path.c_str(), kDirectoryMode) != 0 && errno != EEXIST) {
    throw_errno(fmt::format("make the directory {}", path.native()));
  }
}

void remove_older_than(hours life, const fs::path& directory) {
  const auto limit = fs::file_time_type::clock::now() - life;
  std::error_code failure;
  fs::directory_iterator entries(directory, failure);
  for (; !failure && entries != fs::directory_iterator(); entries.increment(failure)) {
    std::error_code ignored;
    const auto changed = entries->last_write_time(ignored);
    if (!ignored && changed < limit) fs::remove(entries->path(), ignored);
  }
}

fs::path home_directory() {
  if (const char* home = std::getenv("HOME"); home != nullptr && *home == '/') return home;
  std::array<char, 4096> buffer{};
  passwd entry{};
  passwd* found = nullptr;
  getpwuid_r(geteuid(), &entry, buffer.data(), buffer.size(), &found);
  return found != nullptr ? fs::path(found->pw_dir) : fs::path();
}

ByteView view(const Bytes& bytes) {
  return bytes;
}
ByteView view(const MappedFile& file) {
  return file.bytes();
}

}  // namespace

fs::path default_cache_directory() {
  const char* base = std::getenv("XDG_CACHE_HOME");
  if (base != nullptr && *base == '/') return fs::path(base) / "puzzlefs";
  if (geteuid() == 0) return "/var/cache/puzzlefs";
  const auto home = home_directory();
  return home.empty() ? fs::path() : home / ".cache" / "puzzlefs";
}

Cache::Cache(const fs::path& directory) : directory_(directory) {
  try {
    if (directory_.empty()) throw Error(ENOENT, "There is no directory for a cache.");
    std::error_code ignored;  // make_directory() reports it, if it matters
    fs::create_directories(directory_.parent_path(), ignored);
    make_directory(directory_);
    for (const auto* name : {"tmp", "quarantine", "blobs", "blobs/sha256", "index"}) {
      make_directory(directory_ / name);
    }
    remove_older_than(kTempFileLife, directory_ / "tmp");
    remove_older_than(kQuarantineLife, directory_ / "quarantine");
  } catch (const Error& error) {
    warn_once(Trouble::kWrite, "Nothing is kept in the cache", error.what());
    return;
  }
  open_index();
}

Cache::~Cache() = default;

std::optional<Bytes> Cache::read(const format::Digest& digest) {
  return load_verified<Bytes>(digest,
                              [](const fs::path& path) { return read_file(path, kMaxBlobSize); });
}

std::optional<MappedFile> Cache::map(const format::Digest& digest) {
  return load_verified<MappedFile>(digest, [](const fs::path& path) { return MappedFile(path); });
}

void Cache::write(const format::Digest& digest, ByteView data) {
  if (directory_.empty()) return;  // the constructor has warned of it
  try {
    write_file(blob_path(digest), data);
  } catch (const Error& error) {
    warn_once(Trouble::kWrite, "What is fetched is not kept in the cache", error.what());
    return;
  }
  use_index([&](CacheIndex& index) { index.add(digest, data.size()); });
}

void Cache::write_file(const fs::path& path, ByteView data) const {
  const auto temp_directory = directory_ / "tmp";
  try {
    return write_file_atomically(path, temp_directory, data, kFileMode);
  } catch (const Error& error) {
    if (error.code() != ENOENT) throw;
  }
  // The fan-out directories are made as they are needed, the rest of them again because the cache
  // of a running program may be deleted.
  for (const auto& directory : {directory_, temp_directory, directory_ / "blobs",
                                directory_ / "blobs/sha256", path.parent_path()}) {
    make_directory(directory);
  }
  write_file_atomically(path, temp_directory, data, kFileMode);
}

void Cache::remember(const std::string& name, const format::Digest& manifest) {
  use_index([&](CacheIndex& index) { index.remember(name, manifest); });
}

std::optional<format::Digest> Cache::recall(const std::string& name) {
  std::optional<format::Digest> manifest;
  use_index([&](CacheIndex& index) { manifest = index.recall(name); });
  return manifest;
}

fs::path Cache::blob_path(const format::Digest& digest) const {
  const auto hex = digest.hex();
  return directory_ / "blobs" / "sha256" / hex.substr(0, 2) / hex;
}

template <class T, class Load>
std::optional<T> Cache::load_verified(const format::Digest& digest, Load&& load) {
  try {
    std::optional<T> loaded(load(blob_path(digest)));
    if (format::sha256(view(*loaded)) == digest) return loaded;
    quarantine(digest, "Its bytes have changed.");
  } catch (const NotFoundError&) {
    // The ordinary miss.
  } catch (const CorruptError& error) {
    quarantine(digest, error.what());
  } catch (const Error& error) {
    warn_once(Trouble::kRead, "The cache cannot be read", error.what());
  }
  return std::nullopt;
}

void Cache::quarantine(const format::Digest& digest, const std::string& reason) {
  const auto path = blob_path(digest);
  const auto refuge = directory_ / "quarantine" / digest.hex();
  spdlog::warn("The cached blob {} is not used and moved to {}: {}", digest.to_string(),
               refuge.native(), reason);
  if (rename(path.c_str(), refuge.c_str()) != 0) unlink(path.c_str());
  use_index([&](CacheIndex& index) { index.remove(digest); });
}

void Cache::open_index() {
  try {
    index_ = CacheIndex::open(directory_ / "index", directory_ / "blobs/sha256");
  } catch (const Error& error) {
    warn_once(Trouble::kIndex, "The cache works without its index", error.what());
  }
}

void Cache::use_index(const std::function<void(CacheIndex&)>& use) {
  if (!index_) return;
  try {
    use(*index_);
  } catch (const Error& error) {
    warn_once(Trouble::kIndex, "The cache works without its index", error.what());
  }
}

void Cache::warn_once(Trouble trouble, const std::string& consequence, const char* reason) {
  const auto bit = static_cast<unsigned>(trouble);
  if ((warned_.fetch_or(bit) & bit) == 0) spdlog::warn("{}: {}", consequence, reason);
}

}  // namespace puzzlefs::fetch
