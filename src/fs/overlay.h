// A writable view of a mounted image: overlayfs with the image below and a directory that takes the
// changes above. Three directories under the mount point serve it, hidden while it is mounted:
// "ro", where the image is mounted, "upper", which holds the changes and stays, and "work", the
// kernel's.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "fetch/file_descriptor.h"

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

/// Not thread-safe. While it exists no other overlay of puzzlefs can use the same mount point or
/// the same directory for changes: both are locked (flock).
class Overlay {
 public:
  /// Makes the directories. Throws Error, saying what to do: without root, where one of the
  /// directories is in use, is no directory or holds what is not overlayfs's.
  Overlay(const std::filesystem::path& mountpoint, OverlayOptions options);
  /// Removes the directories again, unless the overlay is still mounted, but not the changes. The
  /// image must not be mounted any more.
  ~Overlay();
  Overlay(const Overlay&) = delete;
  Overlay& operator=(const Overlay&) = delete;

  /// Where the image is to be mounted.
  std::filesystem::path lower() const;

  /// Mounts the overlay; the image must be mounted and served. A new directory for the changes gets
  /// the owner, mode and xattrs of the image's root, as far as they may be set, since those of the
  /// upper directory are what overlayfs shows. Throws Error.
  void mount();
  /// Takes the overlay away, also while it is busy. Does nothing if it is not mounted. Throws Error
  /// if another mount covers it.
  void detach();

 private:
  void make_directories();
  bool is_mounted() const;
  std::string mount_data() const;

  std::filesystem::path mountpoint_;  // as in mountinfo
  OverlayOptions options_;
  fetch::FileDescriptor place_;  // the directory that the mount hides; locked
  std::filesystem::path upper_;
  fetch::FileDescriptor upper_lock_;
  std::filesystem::path work_;
  bool upper_is_new_ = false;
  std::string device_;  // of the mount, once it is made
};

/// Where the image below the overlay at `mountpoint` is mounted.
std::filesystem::path overlay_lower(const std::filesystem::path& mountpoint);

/// Waits, for some seconds at most, until no server holds the overlay directories under
/// `mountpoint`, which nothing may be mounted at, and removes them, as a server that died has left
/// them. What overlayfs did not make stays.
void remove_overlay_directories(const std::filesystem::path& mountpoint);

}  // namespace puzzlefs::fs
