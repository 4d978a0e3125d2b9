// Finding and making the places of control sockets.
#include "fs/control_paths.h"

#include <spdlog/fmt/fmt.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <optional>
#include <system_error>

#include "fetch/cache.h"
#include "format/error.h"

namespace puzzlefs::fs {
namespace {

namespace stdfs = std::filesystem;

/// "0:57" as part of a name.
std::string prefix_of(std::string device) {
  std::replace(device.begin(), device.end(), ':', '.');
  return device + "-";
}

/// Makes the directory if it is missing. Throws Error unless it is private then.
void make_private(const stdfs::path& directory) {
  std::error_code ignored;
  stdfs::create_directories(directory.parent_path(), ignored);
  if (::mkdir(directory.c_str(), S_IRWXU) != 0 && errno != EEXIST) {
    throw_errno("make the directory " + directory.native());
  }
  struct stat status {};
  if (::lstat(directory.c_str(), &status) != 0) throw_errno("look at " + directory.native());
  if (S_ISDIR(status.st_mode) && status.st_uid == ::geteuid() &&
      (status.st_mode & (S_IRWXG | S_IRWXO)) == 0) {
    return;
  }
  throw Error(EPERM, fmt::format("{} is not a directory of yours that is closed to others.",
                                 directory.native()));
}

}  // namespace

std::vector<stdfs::path> control_directories() {
  std::vector<stdfs::path> directories;
  if (::geteuid() == 0) directories.emplace_back("/run/puzzlefs");
  const char* const runtime = std::getenv("XDG_RUNTIME_DIR");
  if (runtime != nullptr && *runtime == '/') {
    directories.push_back(stdfs::path(runtime) / "puzzlefs");
  }
  if (const auto cache = fetch::default_cache_directory(); !cache.empty()) {
    directories.push_back(cache / "sockets");
  }
  return directories;
}

stdfs::path make_control_path(const std::vector<stdfs::path>& directories,
                              const std::string& device) {
  std::optional<Error> first;
  for (const auto& directory : directories) {
    try {
      make_private(directory);
      for (const auto& old : find_control_paths({directory}, device)) ::unlink(old.c_str());
      return directory / fmt::format("{}{}.sock", prefix_of(device), ::getpid());
    } catch (const Error& error) {
      if (!first) first = error;
    }
  }
  if (first) throw Error(*first);
  throw NotFoundError("There is no directory for it. Set XDG_RUNTIME_DIR.");
}

std::vector<stdfs::path> find_control_paths(const std::vector<stdfs::path>& directories,
                                            const std::string& device) {
  std::vector<stdfs::path> found;
  for (const auto& directory : directories) {
    std::error_code error;
    for (auto entry = stdfs::directory_iterator(directory, error);
         !error && entry != stdfs::directory_iterator(); entry.increment(error)) {
      const auto name = entry->path().filename().native();
      if (name.starts_with(prefix_of(device)) && name.ends_with(".sock")) {
        found.push_back(entry->path());
      }
    }
  }
  return found;
}

}  // namespace puzzlefs::fs
