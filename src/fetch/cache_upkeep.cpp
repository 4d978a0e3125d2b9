// Making directories, and removing files that nobody misses.
#include "fetch/cache_upkeep.h"

#include <spdlog/fmt/fmt.h>
#include <spdlog/spdlog.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <ctime>
#include <system_error>

#include "format/error.h"

namespace puzzlefs::fetch {
namespace {

namespace fs = std::filesystem;

constexpr mode_t kDirectoryMode = 0700;  // an image may be private

}  // namespace

void make_directory(const fs::path& path) {
  if (mkdir(path.c_str(), kDirectoryMode) != 0 && errno != EEXIST) {
    throw_errno(fmt::format("make the directory {}", path.native()));
  }
}

void ensure_directory(const fs::path& path, const fs::path& quarantine) {
  if (mkdir(path.c_str(), kDirectoryMode) == 0) return;
  if (errno != EEXIST) throw_errno(fmt::format("make the directory {}", path.native()));
  std::error_code ignored;
  if (fs::is_directory(path, ignored)) return;
  const auto refuge = quarantine / path.filename();
  spdlog::warn("{} should be a directory, and is moved into {}.", path.native(),
               quarantine.native());
  if (rename(path.c_str(), refuge.c_str()) != 0) unlink(path.c_str());
  make_directory(path);
}

void remove_older_than(std::chrono::hours life, const fs::path& directory,
                       std::string_view prefix) {
  const auto now = std::time(nullptr);
  const auto seconds = std::chrono::seconds(life).count();
  std::error_code failure;
  fs::directory_iterator entries(directory, failure);
  for (; !failure && entries != fs::directory_iterator(); entries.increment(failure)) {
    const auto& path = entries->path();
    if (!path.filename().native().starts_with(prefix)) continue;
    struct stat status {};
    if (::lstat(path.c_str(), &status) != 0) continue;
    std::error_code ignored;
    const bool recent = status.st_mtime >= now - seconds && status.st_mtime <= now + seconds;
    if (!recent) fs::remove(path, ignored);
  }
}

}  // namespace puzzlefs::fetch
