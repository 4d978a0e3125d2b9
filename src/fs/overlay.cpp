// Mounting overlayfs (Documentation/filesystems/overlayfs.rst).
#include "fs/overlay.h"

#include <fcntl.h>
#include <spdlog/fmt/fmt.h>
#include <spdlog/spdlog.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cerrno>
#include <fstream>
#include <string_view>
#include <system_error>

#include "format/error.h"
#include "fs/mount.h"
#include "fs/mount_options.h"
#include "fs/unmount.h"

namespace puzzlefs::fs {
namespace {

namespace stdfs = std::filesystem;

constexpr std::string_view kOverlayType = "overlay";
constexpr mode_t kDirectoryMode = 0755;

/// Whether it did not exist.
bool make_directory(const stdfs::path& path) {
  if (::mkdir(path.c_str(), kDirectoryMode) == 0) return true;
  const int code = errno;
  struct stat status {};
  if (code == EEXIST && ::stat(path.c_str(), &status) == 0 && S_ISDIR(status.st_mode)) return false;
  throw_errno("make the directory " + path.native(), code);
}

/// The kernel's number of the mount that a path is on.
std::uint64_t mount_id(const stdfs::path& path) {
  struct statx status {};
  if (::statx(AT_FDCWD, path.c_str(), 0, STATX_MNT_ID, &status) != 0) {
    throw_errno("look at " + path.native());
  }
  return status.stx_mnt_id;
}

/// As mountinfo has it.
stdfs::path resolve_mountpoint(const stdfs::path& path) {
  check_mountpoint(path);
  return stdfs::canonical(path);
}

/// overlayfs splits its options at commas and its lower directories at colons that have no
/// backslash before them.
std::string escape(const stdfs::path& path) {
  std::string escaped;
  for (const char c : path.native()) {
    if (c == ',' || c == ':' || c == '\\') escaped += '\\';
    escaped += c;
  }
  return escaped;
}

/// In a user namespace overlayfs may not write trusted.* attributes, and keeps its own as user.*
/// (Linux ≥ 5.11).
bool in_user_namespace() {
  std::ifstream map("/proc/self/uid_map");
  std::uint64_t inside = 0;
  std::uint64_t outside = 0;
  std::uint64_t count = 0;
  constexpr std::uint64_t kAll = 0xffffffff;
  return map >> inside >> outside >> count && !(inside == 0 && outside == 0 && count == kAll);
}

void copy_xattrs(const stdfs::path& from, const stdfs::path& to) {
  std::string names(XATTR_LIST_MAX, '\0');
  const auto size = ::llistxattr(from.c_str(), names.data(), names.size());
  if (size < 0) throw_errno("list the attributes of " + from.native());
  std::string value(XATTR_SIZE_MAX, '\0');
  for (std::string_view rest(names.data(), static_cast<std::size_t>(size)); !rest.empty();) {
    const std::string name(rest.substr(0, rest.find('\0')));
    rest.remove_prefix(name.size() + 1);
    const auto length = ::lgetxattr(from.c_str(), name.c_str(), value.data(), value.size());
    if (length < 0) throw_errno("read the attribute " + name + " of " + from.native());
    if (::lsetxattr(to.c_str(), name.c_str(), value.data(), static_cast<std::size_t>(length), 0) !=
        0) {
      throw_errno("set the attribute " + name + " of " + to.native());
    }
  }
}

void copy_attributes(const stdfs::path& from, const stdfs::path& to) {
  struct stat status {};
  if (::stat(from.c_str(), &status) != 0) throw_errno("look at " + from.native());
  if (::chown(to.c_str(), status.st_uid, status.st_gid) != 0 ||
      ::chmod(to.c_str(), status.st_mode & 07777) != 0) {
    throw_errno("give " + to.native() + " the owner and mode of the image's root");
  }
  copy_xattrs(from, to);
}

}  // namespace

Overlay::Overlay(const stdfs::path& mountpoint, OverlayOptions options)
    : mountpoint_(resolve_mountpoint(mountpoint)),
      upper_(options.upper.empty() ? mountpoint_ / "upper" : stdfs::absolute(options.upper)),
      work_(mountpoint_ / "work"),
      options_(std::move(options)) {
  if (::geteuid() != 0) {
    throw Error(EPERM,
                "A writable mount takes root, as overlayfs does. Run it as root, or in a user "
                "namespace of your own: unshare --map-root-user --mount.");
  }
  if (is_overlay(read_mountinfo(), mountpoint_)) {
    throw Error(EBUSY, fmt::format("A writable image is mounted at {0} already. Unmount it first, "
                                   "with \"puzzlefs umount {0}\".",
                                   mountpoint_.native()));
  }
  make_directory(lower());
  upper_is_new_ = make_directory(upper_);
  // overlayfs takes both from one mount only.
  if (mount_id(upper_) != mount_id(mountpoint_)) work_ = upper_.native() + ".work";
  make_directory(work_);
}

Overlay::~Overlay() {
  if (in_use_) return;
  remove_overlay_directories(mountpoint_);
  std::error_code ignored;
  // Not if there are changes in it: only an empty directory can be removed.
  if (upper_is_new_) stdfs::remove(upper_, ignored);
}

stdfs::path Overlay::lower() const {
  return overlay_lower(mountpoint_);
}

std::string Overlay::mount_data() const {
  auto data = fmt::format("lowerdir={},upperdir={},workdir={}", escape(lower()), escape(upper_),
                          escape(work_));
  if (in_user_namespace()) data += ",userxattr";
  return data;
}

void Overlay::mount() {
  if (upper_is_new_) copy_attributes(lower(), upper_);
  const auto data = mount_data();
  if (::mount(options_.source.c_str(), mountpoint_.c_str(), kOverlayType.data(),
              kernel_mount_flags(options_.mount_options), data.c_str()) == 0) {
    in_use_ = true;
    return;
  }
  const int code = errno;
  throw Error(
      code,
      fmt::format("Cannot mount an overlay at {}: {}. The directory for changes, {}, must "
                  "be on a file system that overlayfs can write to, such as ext4, xfs, "
                  "btrfs or tmpfs, and not on another overlay, NFS or FUSE; choose it with "
                  "--persist. The kernel's log (dmesg) may say more.",
                  mountpoint_.native(), std::generic_category().message(code), upper_.native()));
}

void Overlay::detach() {
  if (!is_overlay(read_mountinfo(), mountpoint_)) return;
  if (::umount2(mountpoint_.c_str(), UMOUNT_NOFOLLOW | MNT_DETACH) != 0) {
    throw_errno("unmount " + mountpoint_.native());
  }
  in_use_ = false;
}

bool is_overlay(std::string_view mountinfo, const stdfs::path& mountpoint) {
  const auto top = find_mount(mountinfo, mountpoint);
  if (!top || top->type != kOverlayType) return false;
  const auto image = find_mount(mountinfo, overlay_lower(mountpoint));
  return image && image->type == kMountType;
}

stdfs::path overlay_lower(const stdfs::path& mountpoint) {
  return mountpoint / "ro";
}

void remove_overlay_directories(const stdfs::path& mountpoint) {
  std::error_code ignored;
  stdfs::remove(overlay_lower(mountpoint), ignored);
  const auto work = mountpoint / "work";
  for (const auto* const made_by_kernel : {"work", "index"}) {
    stdfs::remove_all(work / made_by_kernel, ignored);
  }
  stdfs::remove(work, ignored);
}

}  // namespace puzzlefs::fs
