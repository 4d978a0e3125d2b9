#include "build/attributes.h"

#include <fcntl.h>
#include <spdlog/fmt/fmt.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdint>

#include "format/error.h"
#include "format/nanoseconds.h"

namespace puzzlefs::build {
namespace {

// fchmod(2), futimens(3) and fsetxattr(2) refuse O_PATH descriptors, the only ones that devices and
// symbolic links can have; this name leads to the same inode.
std::string link_of(int fd) {
  return fmt::format("/proc/self/fd/{}", fd);
}

// Whether the owner is the inode's now.
bool set_owner(int fd, const format::Inode& inode, const std::string& path) {
  if (::fchownat(fd, "", inode.uid(), inode.gid(), AT_EMPTY_PATH) == 0) return true;
  // EINVAL: an owner that does not exist in this user namespace.
  if (errno == EPERM || errno == EINVAL) return false;
  throw_errno("change the owner of " + path);
}

void set_xattrs(int fd, const format::Inode& inode, const std::string& path, LeftOut& left_out) {
  const std::uint32_t count = inode.xattr_count();
  for (std::uint32_t index = 0; index < count; ++index) {
    const format::Xattr xattr = inode.xattr(index);
    const std::string key(xattr.key);
    if (::setxattr(link_of(fd).c_str(), key.c_str(), xattr.value.data(), xattr.value.size(), 0) ==
        0) {
      continue;
    }
    // Root is refused what no file of this type or on this file system can have.
    if (errno != EPERM || ::geteuid() == 0) {
      throw_errno("set the extended attribute " + key + " of " + path);
    }
    left_out.attributes.add(key + " of " + path);
  }
}

void set_mode(int fd, mode_t mode, const std::string& path) {
  if (::fchmod(fd, mode) == 0) return;
  if (errno == EBADF && ::chmod(link_of(fd).c_str(), mode) == 0) return;
  throw_errno("change the mode of " + path);
}

void set_time(int fd, std::int64_t mtime, const std::string& path) {
  if (mtime == 0) return;  // not recorded
  const struct timespec time = format::to_timespec(mtime);
  const std::array<struct timespec, 2> times{time, time};  // of access, of modification
  if (::futimens(fd, times.data()) == 0) return;
  if (errno == EBADF && ::utimensat(AT_FDCWD, link_of(fd).c_str(), times.data(), 0) == 0) return;
  throw_errno("change the times of " + path);
}

}  // namespace

void apply_attributes(int fd, const format::Inode& inode, const std::string& path,
                      LeftOut& left_out) {
  const bool owned = set_owner(fd, inode, path);
  if (!owned) left_out.owners.add(path);
  set_xattrs(fd, inode, path, left_out);
  if (inode.type() != format::FileType::kSymlink) {  // which has no mode of its own
    const mode_t mode = inode.permissions();
    set_mode(fd, owned ? mode : mode & ~mode_t{S_ISUID | S_ISGID}, path);
  }
  set_time(fd, inode.mtime(), path);
}

}  // namespace puzzlefs::build
