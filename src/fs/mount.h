// A FUSE session's connection to the kernel, mounted somewhere.
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "fs/fuse.h"

namespace puzzlefs::fs {

/// Throws Error, saying what to do, if nothing can be mounted at `path`: it does not exist, is no
/// directory, or its server has died.
void check_mountpoint(const std::filesystem::path& path);

/// Owns a libfuse session and its mount. Requests may be received and replied to by any thread.
class FuseMount {
 public:
  /// Mounts at `mountpoint`, on top of what is mounted there, with `options` as from
  /// complete_mount_options(). `operations` is the user data of the table and of `io`. Throws
  /// Error, saying what to do.
  FuseMount(const std::filesystem::path& mountpoint, const std::vector<std::string>& options,
            const fuse_lowlevel_ops& table, const fuse_custom_io& io, void* operations);
  /// Unmounts if still mounted. No request may be unanswered.
  ~FuseMount();
  FuseMount(const FuseMount&) = delete;
  FuseMount& operator=(const FuseMount&) = delete;

  fuse_session* session() { return session_.get(); }
  /// As in mountinfo, "major:minor"; empty if it could not be told.
  const std::string& device() const { return device_; }

  /// Takes the mount out of the tree of files, also while it is busy; what is open stays usable as
  /// long as requests are answered. Does nothing if it is not there any more. Throws Error.
  void detach();

 private:
  struct Destroy {
    void operator()(fuse_session* session) const { fuse_session_destroy(session); }
  };

  std::filesystem::path mountpoint_;  // absolute
  std::unique_ptr<fuse_session, Destroy> session_;
  std::string device_;  // tells this mount from others at the same place
};

}  // namespace puzzlefs::fs
