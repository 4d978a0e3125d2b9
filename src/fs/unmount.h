// Finding and removing mounts.
#pragma once

#include <sys/types.h>

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace puzzlefs::fs {

/// The file system type of our mounts in /proc/self/mountinfo.
inline constexpr std::string_view kMountType = "fuse.puzzlefs";
/// The type of what lies on top of an image that is mounted writable.
inline constexpr std::string_view kOverlayType = "overlay";
/// That of an image below an overlay.
inline constexpr std::string_view kLowerType = "fuse.puzzlefs.lower";

/// A line of /proc/self/mountinfo (proc(5)), as far as it is of use here.
struct Mount {
  std::string mountpoint;
  std::string device;  // "major:minor", unique among the mounts that exist
  std::string type;
  std::string source;

  bool operator==(const Mount&) const = default;
};

/// The mounts at exactly `mountpoint`, an absolute path, in the text of a mountinfo file: each
/// covers those before it.
std::vector<Mount> mounts_at(std::string_view mountinfo, const std::string& mountpoint);
/// The topmost of them.
std::optional<Mount> find_mount(std::string_view mountinfo, const std::string& mountpoint);
/// The mounts of this process's mount namespace, as the kernel lists them. Throws Error.
std::string read_mountinfo();
/// The topmost mount at `mountpoint` in this process's mount namespace.
std::optional<Mount> mount_at(const std::filesystem::path& mountpoint);

/// Unmounts a puzzlefs mount, also one whose server has died: umount2(2) when privileged, else
/// fusermount3. Of a writable one (fs/overlay.h) the overlay goes, then the image below it, and,
/// unless `lazy`, the server's end is waited for. Throws Error, saying whether it is no mount at
/// all, not one of puzzlefs, covered by another, or busy. `lazy` detaches a busy one.
void unmount(const std::filesystem::path& mountpoint, bool lazy);

/// Unmounts the topmost mount at `place`, which is as in mountinfo, whatever it is. Throws Error.
void unmount_topmost(const std::filesystem::path& place, bool lazy);

}  // namespace puzzlefs::fs
