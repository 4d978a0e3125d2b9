#include "build/directory_stack.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <memory>
#include <utility>

#include "format/error.h"

namespace puzzlefs::build {
namespace {

constexpr std::size_t kOpenLevels = 64;

struct stat status_of(int fd, const std::string& path) {
  struct stat status {};
  if (::fstat(fd, &status) != 0) throw_errno("examine the directory " + path);
  return status;
}

struct CloseStream {
  void operator()(DIR* stream) const { ::closedir(stream); }
};

std::unique_ptr<DIR, CloseStream> open_stream(int directory) {
  const int fd = ::openat(directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return nullptr;
  std::unique_ptr<DIR, CloseStream> stream(::fdopendir(fd));  // owns `fd` if it succeeds
  if (!stream) ::close(fd);
  return stream;
}

}  // namespace

fetch::FileDescriptor open_subdirectory(int parent, const char* name) {
  return fetch::FileDescriptor(
      ::openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
}

DirectoryStack::DirectoryStack(fetch::FileDescriptor root, std::string root_path) {
  const struct stat status = status_of(root.get(), root_path);
  levels_.push_back({std::move(root_path), std::move(root), status});
}

void DirectoryStack::enter(const std::string& name) {
  Level level{.name = name, .fd = open_subdirectory(fd(), name.c_str())};
  if (!level.fd) throw_errno("open the directory " + path_of(name));
  level.status = status_of(level.fd.get(), path_of(name));
  levels_.push_back(std::move(level));
  if (depth() > kOpenLevels) levels_[depth() - kOpenLevels].fd = {};
}

void DirectoryStack::leave() {
  levels_.pop_back();
  if (!levels_.back().fd) reopen_deepest();
}

void DirectoryStack::reopen_deepest() {
  // Opens a whole stretch at once, so that going up from depth n costs n/kOpenLevels of these.
  std::size_t open = depth();
  while (!levels_[open].fd) --open;
  for (std::size_t at = open + 1; at <= depth(); ++at) {
    Level& level = levels_[at];
    level.fd = open_subdirectory(levels_[at - 1].fd.get(), level.name.c_str());
    if (!level.fd) throw_errno("open the directory " + path_to(at) + " again");
    const struct stat status = status_of(level.fd.get(), path_to(at));
    if (status.st_dev != level.status.st_dev || status.st_ino != level.status.st_ino) {
      throw Error(EBUSY,
                  "The directory " + path_to(at) +
                      " was replaced while it was in use; try again when nothing changes it.");
    }
    if (at > 1 && at - 1 + kOpenLevels <= depth()) levels_[at - 1].fd = {};
  }
}

std::vector<std::string> DirectoryStack::names() const {
  const auto stream = open_stream(fd());
  if (!stream) throw_errno("list the directory " + path());

  std::vector<std::string> names;
  for (;;) {
    errno = 0;
    const dirent* entry = ::readdir(stream.get());
    if (entry == nullptr) break;
    const std::string_view name = entry->d_name;
    if (name != "." && name != "..") names.emplace_back(name);
  }
  if (errno != 0) throw_errno("list the directory " + path());
  std::sort(names.begin(), names.end());
  return names;
}

std::string DirectoryStack::path_to(std::size_t depth) const {
  std::string path;
  for (std::size_t at = 0; at <= depth; ++at) {
    if (!path.empty() && path.back() != '/') path += '/';
    path += levels_[at].name;
  }
  return path;
}

std::string DirectoryStack::path() const {
  return path_to(depth());
}

std::string DirectoryStack::path_of(std::string_view name) const {
  std::string path = path_to(depth());
  if (path.back() != '/') path += '/';
  return path.append(name);
}

}  // namespace puzzlefs::build
