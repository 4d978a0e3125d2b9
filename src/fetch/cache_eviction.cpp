#include "fetch/cache_eviction.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <ctime>
#include <memory>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "fetch/cached_recipes.h"
#include "fetch/file_descriptor.h"
#include "format/error.h"

namespace puzzlefs::fetch {
namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t kBlockSize = 4096;
constexpr std::time_t kUseGranularity = 60;  // seconds
constexpr std::time_t kClockSlack = 3600;    // seconds; machines may share the files

struct Entry {
  format::Digest digest;
  bool is_blob = false;  // or else a whole file
  std::uint64_t size = 0;
  // Whether that may be so, and when. A clock that was ahead for a while would else keep what it
  // saw for ever.
  std::tuple<bool, std::time_t, long> used;
};

auto use_of(const struct stat& status) {
  const auto used = status.st_mtim;
  return std::tuple(used.tv_sec <= std::time(nullptr) + kClockSlack, used.tv_sec, used.tv_nsec);
}

fs::path blobs_in(const fs::path& cache) {
  return cache / "blobs/sha256";
}
fs::path files_in(const fs::path& cache) {
  return cache / "files";
}

struct CloseDirectory {
  void operator()(DIR* directory) const { ::closedir(directory); }
};

// Calls `found` with the name and status of each regular file.
template <class Found>
void for_each_file(const fs::path& directory, const Found& found) {
  const std::unique_ptr<DIR, CloseDirectory> handle(::opendir(directory.c_str()));
  if (!handle) return;
  while (const dirent* const entry = ::readdir(handle.get())) {
    struct stat status {};
    const bool regular =
        ::fstatat(::dirfd(handle.get()), entry->d_name, &status, AT_SYMLINK_NOFOLLOW) == 0 &&
        S_ISREG(status.st_mode);
    if (regular) found(entry->d_name, status);
  }
}

std::optional<format::Digest> parse_name(const char* name) {
  try {
    return format::Digest::parse_hex(name);
  } catch (const CorruptError&) {
    return std::nullopt;  // not one of ours
  }
}

// Calls `found` with the digest and status of each file of a directory with a fan-out, until
// `stop`.
template <class Found>
void for_each_digest(const fs::path& directory, const std::atomic<bool>& stop, const Found& found) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  for (std::size_t i = 0; i < 256 && !stop; ++i) {
    const std::string name{kDigits[i / 16], kDigits[i % 16]};
    for_each_file(directory / name, [&](const char* file, const struct stat& status) {
      if (const auto digest = parse_name(file)) found(*digest, status);
    });
  }
}

std::vector<CachedItem> list(const fs::path& directory) {
  const std::atomic<bool> never = false;
  std::vector<CachedItem> items;
  for_each_digest(directory, never, [&](const format::Digest& digest, const struct stat& status) {
    items.push_back({digest, static_cast<std::uint64_t>(status.st_size)});
  });
  return items;
}

// Keeps others from taking a whole file into use, who have a shared lock on it then. Nothing if
// somebody has. Without locks on the file system the descriptor is as good as none.
std::optional<FileDescriptor> lock_unused(const fs::path& path) {
  FileDescriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
  const bool in_use = file && ::flock(file.get(), LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK;
  if (in_use) return std::nullopt;
  return file;
}

class Shrinking {
 public:
  Shrinking(const fs::path& directory, const std::atomic<bool>& stop)
      : directory_(directory), stop_(stop) {}

  CacheContents run(std::uint64_t target, const std::unordered_set<format::Digest>& kept) {
    // First, so that what is renamed meanwhile counts twice and not never.
    for_each_file(directory_ / "tmp", [this](const char*, const struct stat& status) {
      contents_.bytes += size_of(status);
    });
    count_blobs(kept);
    count_files();
    for_each_file(directory_ / "quarantine", [&](const char* name, const struct stat& status) {
      ++contents_.quarantined;
      contents_.bytes += size_of(status);
      remove_quarantined(name, size_of(status), target);
    });
    remove_items(target);
    if (contents_.removed_files > 0) CachedRecipes(directory_).remove_dangling(stop_);
    return contents_;
  }

 private:
  static std::uint64_t size_of(const struct stat& status) {
    // With fs-verity a file takes up more than its bytes.
    constexpr std::uint64_t kStatBlockSize = 512;
    return std::max(disk_size(static_cast<std::uint64_t>(status.st_size)),
                    static_cast<std::uint64_t>(status.st_blocks) * kStatBlockSize);
  }

  void count_blobs(const std::unordered_set<format::Digest>& kept) {
    for_each_digest(blobs_in(directory_), stop_, [&](const auto& digest, const auto& status) {
      ++contents_.blobs;
      contents_.bytes += size_of(status);
      if (!kept.contains(digest)) {
        entries_.push_back({digest, true, size_of(status), use_of(status)});
      }
    });
  }

  // Those of pinned images too, which can be made again.
  void count_files() {
    for_each_digest(files_in(directory_), stop_, [&](const auto& digest, const auto& status) {
      ++contents_.files;
      contents_.bytes += size_of(status);
      entries_.push_back({digest, false, size_of(status), use_of(status)});
    });
  }

  void remove_quarantined(const char* name, std::uint64_t size, std::uint64_t target) {
    // Blobs may have to go for it, and it is of use to nobody but who looks for the reason.
    if (contents_.bytes <= target) return;
    if (::unlink((directory_ / "quarantine" / name).c_str()) != 0) return;
    --contents_.quarantined;
    contents_.bytes -= size;
    contents_.freed += size;
  }

  void remove_items(std::uint64_t target) {
    if (contents_.bytes <= target) return;
    std::sort(entries_.begin(), entries_.end(),
              [](const Entry& a, const Entry& b) { return a.used < b.used; });
    for (const auto& entry : entries_) {
      if (contents_.bytes <= target || stop_) return;
      remove(entry);
    }
  }

  void remove(const Entry& entry) {
    const auto hex = entry.digest.hex();
    const auto root = entry.is_blob ? blobs_in(directory_) : files_in(directory_);
    const auto path = root / hex.substr(0, 2) / hex;
    const auto lock = entry.is_blob ? FileDescriptor() : lock_unused(path);
    if (!lock) return;
    const bool removed = ::unlink(path.c_str()) == 0;
    if (!removed && errno != ENOENT) return;
    --(entry.is_blob ? contents_.blobs : contents_.files);
    contents_.bytes -= entry.size;
    if (!removed) return;  // somebody else has
    ++(entry.is_blob ? contents_.removed : contents_.removed_files);
    contents_.freed += entry.size;
  }

  const fs::path& directory_;
  const std::atomic<bool>& stop_;
  CacheContents contents_;
  std::vector<Entry> entries_;  // that may go
};

}  // namespace

std::uint64_t disk_size(std::uint64_t size) {
  return (size + kBlockSize - 1) / kBlockSize * kBlockSize;
}

bool is_use_outdated(std::time_t used) {
  const auto age = std::time(nullptr) - used;
  return age < 0 || age >= kUseGranularity;
}

std::vector<CachedItem> list_blobs(const fs::path& cache) {
  return list(blobs_in(cache));
}

std::vector<CachedItem> list_files(const fs::path& cache) {
  return list(files_in(cache));
}

CacheContents shrink_cache(const fs::path& directory, CacheUsage& usage, std::uint64_t target,
                           const std::unordered_set<format::Digest>& kept,
                           const std::atomic<bool>& stop) {
  const auto mark = usage.mark();
  const auto contents = Shrinking(directory, stop).run(target, kept);
  if (!stop) usage.set(contents.bytes, mark);
  return contents;
}

}  // namespace puzzlefs::fetch
