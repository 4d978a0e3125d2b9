// Mounting overlayfs (Documentation/filesystems/overlayfs.rst).
#include "fs/overlay.h"

#include <fcntl.h>
#include <spdlog/fmt/fmt.h>
#include <spdlog/spdlog.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <string_view>
#include <system_error>
#include <thread>

#include "format/error.h"
#include "fs/mount.h"
#include "fs/mount_options.h"
#include "fs/unmount.h"
#include "fs/user_namespace.h"

namespace puzzlefs::fs {
namespace {

namespace stdfs = std::filesystem;

using fetch::FileDescriptor;

constexpr mode_t kDirectoryMode = 0755;
/// How long a server that has been unmounted may take to end.
constexpr std::chrono::seconds kPatience{3};
constexpr std::chrono::milliseconds kPause{20};
/// What overlayfs makes in its work directory, each with no permissions at all.
constexpr std::array<const char*, 2> kMadeByKernel = {"work", "index"};

[[noreturn]] void fail_busy(const stdfs::path& mountpoint, const stdfs::path& what) {
  throw Error(EBUSY, fmt::format("{0} is in use by a writable mount. Unmount that first, with "
                                 "\"puzzlefs umount {1}\", and end what still uses it.",
                                 what.native(), mountpoint.native()));
}

FileDescriptor open_here(int place, const char* name) {
  return FileDescriptor(::openat(place, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
}

/// False if another process keeps the lock. It ends with the process.
bool lock(const FileDescriptor& directory) {
  const auto deadline = std::chrono::steady_clock::now() + kPatience;
  while (::flock(directory.get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK) throw_errno("lock a directory");
    if (std::chrono::steady_clock::now() > deadline) return false;
    std::this_thread::sleep_for(kPause);
  }
  return true;
}

/// A directory beside others of the user's, who may own the mount point: a link is not followed.
/// Returns whether it did not exist.
bool make_directory_here(const FileDescriptor& place, const char* name, const stdfs::path& path) {
  const bool made = ::mkdirat(place.get(), name, kDirectoryMode) == 0;
  if (!made && errno != EEXIST) throw_errno("make the directory " + path.native());
  if (open_here(place.get(), name)) return made;
  throw Error(ENOTDIR, fmt::format("{} is in the way: it must be a directory, and not a link. Move "
                                   "it away, or choose another mount point.",
                                   path.native()));
}

/// One that the user named, by whatever links. Returns whether it did not exist.
bool make_named_directory(const stdfs::path& path) {
  if (::mkdir(path.c_str(), kDirectoryMode) == 0) return true;
  const int code = errno;
  std::error_code ignored;
  if (code == EEXIST && stdfs::is_directory(path, ignored)) return false;
  if (code == EEXIST) {
    throw Error(ENOTDIR,
                fmt::format("{} is not a directory. Choose one for the changes.", path.native()));
  }
  throw_errno("make the directory " + path.native(), code);
}

bool is_made_by_kernel(int work, const char* name) {
  struct stat status {};
  return ::fstatat(work, name, &status, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(status.st_mode) &&
         (status.st_mode & 07777) == 0;
}

/// Access to an open directory for functions that want a path.
stdfs::path path_of(const FileDescriptor& directory) {
  return stdfs::path("/proc/self/fd") / std::to_string(directory.get());
}

/// overlayfs empties its work directory when it is mounted.
void check_work(const FileDescriptor& work, const stdfs::path& path) {
  for (const auto& entry : stdfs::directory_iterator(path_of(work))) {
    const auto name = entry.path().filename();
    const bool known =
        std::find(kMadeByKernel.begin(), kMadeByKernel.end(), name) != kMadeByKernel.end();
    if (known && is_made_by_kernel(work.get(), name.c_str())) continue;
    throw Error(EEXIST, fmt::format("{} holds what overlayfs did not put there, and would delete. "
                                    "Move it away, or choose another mount point.",
                                    path.native()));
  }
}

/// Removes a work directory with what overlayfs made in it. Whatever else there is stays.
void remove_work(const FileDescriptor& work, const stdfs::path& path) {
  if (!work) return;
  std::error_code ignored;
  for (const auto* const name : kMadeByKernel) {
    if (is_made_by_kernel(work.get(), name)) stdfs::remove_all(path_of(work) / name, ignored);
  }
  ::rmdir(path.c_str());
}

void remove_directories(const FileDescriptor& place, const stdfs::path& work) {
  ::unlinkat(place.get(), "ro", AT_REMOVEDIR);
  const auto here = open_here(place.get(), "work");
  remove_work(here, path_of(place) / "work");
  if (work.empty() || work.filename() == "work") return;
  remove_work(open_here(AT_FDCWD, work.c_str()), work);
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

/// The attributes in which overlayfs keeps its own affairs.
bool is_of_overlayfs(std::string_view name) {
  return name.starts_with("trusted.overlay.") || name.starts_with("user.overlay.");
}

/// Whether all of them could be set.
bool copy_xattrs(const stdfs::path& from, const stdfs::path& to) {
  std::string names(XATTR_LIST_MAX, '\0');
  const auto size = ::llistxattr(from.c_str(), names.data(), names.size());
  if (size < 0) return errno == EOPNOTSUPP;
  std::string value(XATTR_SIZE_MAX, '\0');
  bool complete = true;
  for (std::string_view rest(names.data(), static_cast<std::size_t>(size)); !rest.empty();) {
    const std::string name(rest.substr(0, rest.find('\0')));
    rest.remove_prefix(name.size() + 1);
    if (is_of_overlayfs(name)) continue;
    const auto length = ::lgetxattr(from.c_str(), name.c_str(), value.data(), value.size());
    complete = complete && length >= 0 &&
               ::lsetxattr(to.c_str(), name.c_str(), value.data(), static_cast<std::size_t>(length),
                           0) == 0;
  }
  return complete;
}

/// In a user namespace an owner may have no number, and an attribute may not be set.
void copy_attributes(const stdfs::path& from, const stdfs::path& to) {
  struct stat status {};
  if (::stat(from.c_str(), &status) != 0) throw_errno("look at " + from.native());
  const bool owned = ::chown(to.c_str(), status.st_uid, status.st_gid) == 0;
  const bool permitted = ::chmod(to.c_str(), status.st_mode & 07777) == 0;
  if (copy_xattrs(from, to) && owned && permitted) return;
  spdlog::warn(
      "The root of the writable mount differs from the image's in owner, mode or extended "
      "attributes: not all of them may be set on {} here.",
      to.native());
}

}  // namespace

Overlay::Overlay(const stdfs::path& mountpoint, OverlayOptions options)
    : mountpoint_(resolve_mountpoint(mountpoint)),
      options_(std::move(options)),
      place_(fetch::open_directory(mountpoint_)) {
  if (::geteuid() != 0) {
    throw Error(EPERM,
                "A writable mount takes root, as overlayfs does. Run it as root, or in a user "
                "namespace of your own: unshare --map-root-user --mount.");
  }
  // Of what is mounted there already the root was opened.
  if (const auto mount = mount_at(overlay_lower(mountpoint_));
      (mount && mount->type == kLowerType) || !lock(place_)) {
    fail_busy(mountpoint_, mountpoint_);
  }
  try {
    make_directories();
  } catch (...) {
    remove_directories(place_, work_);
    if (upper_is_new_) ::rmdir(upper_.c_str());
    throw;
  }
}

Overlay::~Overlay() {
  try {
    if (is_mounted()) return;
    remove_directories(place_, work_);
    // Not if there are changes in it: only an empty directory can be removed.
    if (upper_is_new_ && device_.empty()) ::rmdir(upper_.c_str());
  } catch (const std::exception& error) {
    spdlog::error("{}", error.what());
  }
}

bool Overlay::is_mounted() const {
  const auto mounts = mounts_at(read_mountinfo(), mountpoint_);
  return std::any_of(mounts.begin(), mounts.end(),
                     [&](const Mount& mount) { return mount.device == device_; });
}

void Overlay::make_directories() {
  make_directory_here(place_, "ro", lower());
  if (options_.upper.empty()) {
    upper_ = mountpoint_ / "upper";
    upper_is_new_ = make_directory_here(place_, "upper", upper_);
  } else {
    upper_is_new_ = make_named_directory(options_.upper);
    upper_ = stdfs::canonical(options_.upper);  // without a slash at its end
    if (upper_ == mountpoint_) {
      throw UsageError("The directory for the changes cannot be the mount point itself.");
    }
  }
  upper_lock_ = fetch::open_directory(upper_);
  if (!lock(upper_lock_)) fail_busy(mountpoint_, upper_);
  // overlayfs takes both from one mount only.
  if (mount_id(upper_) == mount_id(mountpoint_)) {
    work_ = mountpoint_ / "work";
    make_directory_here(place_, "work", work_);
  } else {
    work_ = upper_.native() + ".work";
    make_named_directory(work_);
  }
  const auto work = open_here(AT_FDCWD, work_.c_str());
  if (!work) throw_errno("open the directory " + work_.native());
  check_work(work, work_);
}

stdfs::path Overlay::lower() const {
  return overlay_lower(mountpoint_);
}

std::string Overlay::mount_data() const {
  auto data = fmt::format("lowerdir={},upperdir={},workdir={}", escape(lower()), escape(upper_),
                          escape(work_));
  // There overlayfs may not write trusted.* attributes, and keeps its own as user.* (Linux ≥ 5.11).
  if (in_user_namespace()) data += ",userxattr";
  return data;
}

void Overlay::mount() {
  if (upper_is_new_) copy_attributes(lower(), upper_);
  const auto data = mount_data();
  const auto source = source_option(options_.mount_options, options_.source);
  if (::mount(source.c_str(), mountpoint_.c_str(), kOverlayType.data(),
              kernel_mount_flags(options_.mount_options), data.c_str()) == 0) {
    if (const auto mount = mount_at(mountpoint_)) device_ = mount->device;
    return;
  }
  const int code = errno;
  const auto hint =
      code == EINVAL
          ? fmt::format(
                " The directory for changes, {}, must be on a file system that overlayfs can "
                "write to, such as ext4, xfs, btrfs or tmpfs, and not on another overlay, "
                "NFS or FUSE; choose it with --persist.",
                upper_.native())
          : std::string();
  throw Error(code, fmt::format("Cannot mount an overlay at {}: {}.{} The kernel's log (dmesg) may "
                                "say more.",
                                mountpoint_.native(), std::generic_category().message(code), hint));
}

void Overlay::detach() {
  if (device_.empty()) return;
  if (!is_mounted()) return;
  const auto topmost = mount_at(mountpoint_);
  if (topmost && topmost->device != device_) {
    throw Error(EBUSY, fmt::format("The writable mount at {0} is covered by another, of type {1}. "
                                   "Unmount that, and then this one with \"puzzlefs umount {0}\".",
                                   mountpoint_.native(), topmost->type));
  }
  unmount_topmost(mountpoint_, true);
}

stdfs::path overlay_lower(const stdfs::path& mountpoint) {
  return mountpoint / "ro";
}

void remove_overlay_directories(const stdfs::path& mountpoint) {
  const auto place = fetch::open_directory(mountpoint);
  if (lock(place)) remove_directories(place, {});
}

}  // namespace puzzlefs::fs
