// A writable view of a mounted image: overlayfs with the image below and a directory that takes the
// changes above. Three directories under the mount point serve it, hidden while it is mounted:
// "ro", where the image is mounted, "upper", which holds the changes and stays, and "work", the
// kernel's.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace puzzlefs::fs {

struct OverlayOptions {
  /// Holds the changes; made if missing. Empty takes "upper" under the mount point.
  std::filesystem::path upper;
  /// Mount options as for mount(8), of which the overlay takes those that the kernel knows for any
  /// file system.
  std::vector<std::string> mount_options;
  /// What /proc/mounts shows as the device.
  std::string source;
};

/// Not thread-safe.
class Overlay {
 public:
  /// Makes the directories. Throws Error, saying what to do: without root, where an overlay of
  /// puzzlefs is mounted already, or if they cannot be made.
  Overlay(const std::filesystem::path& mountpoint, OverlayOptions options);
  /// Removes the directories again, but not the changes, if the overlay was not mounted or was
  /// taken away by detach(). Otherwise that is for unmount(): the place may be in use anew by now.
  /// The image must not be mounted any more.
  ~Overlay();
  Overlay(const Overlay&) = delete;
  Overlay& operator=(const Overlay&) = delete;

  /// Where the image is to be mounted.
  std::filesystem::path lower() const;

  /// Mounts the overlay; the image must be mounted and served. A new directory for the changes gets
  /// the owner, mode and xattrs of the image's root, since those of the upper directory are what
  /// overlayfs shows. Throws Error.
  void mount();
  /// Takes the overlay away, also while it is busy. Does nothing if it is not mounted. Throws
  /// Error.
  void detach();

 private:
  std::string mount_data() const;

  std::filesystem::path mountpoint_;  // absolute
  std::filesystem::path upper_;
  std::filesystem::path work_;
  OverlayOptions options_;
  bool upper_is_new_ = false;
  bool in_use_ = false;  // mounted, or unmounted by somebody else
};

/// Whether the text of a mountinfo file shows an overlay of puzzlefs at `mountpoint`, which is
/// absolute.
bool is_overlay(std::string_view mountinfo, const std::filesystem::path& mountpoint);

/// Where the image below the overlay at `mountpoint` is mounted.
std::filesystem::path overlay_lower(const std::filesystem::path& mountpoint);

/// Removes what the overlay needed under its mount point, once nothing is mounted there any more,
/// but not the changes. What cannot be removed stays.
void remove_overlay_directories(const std::filesystem::path& mountpoint);

}  // namespace puzzlefs::fs
