// Mounts that last as long as a test.
#pragma once

#include <fcntl.h>
#include <sys/mount.h>

#include <filesystem>
#include <string>

#include "fetch/file_descriptor.h"

namespace puzzlefs::fs::test {

/// Mounts on construction, where that is permitted, and detaches on destruction what is still
/// there.
class ScopedMount {
 public:
  ScopedMount(const std::filesystem::path& path, const std::string& type, const std::string& data)
      : path_(path),
        mounted_(::mount("test", path.c_str(), type.c_str(), MS_RDONLY, data.c_str()) == 0) {}
  ~ScopedMount() {
    if (mounted_) ::umount2(path_.c_str(), MNT_DETACH);
  }
  ScopedMount(const ScopedMount&) = delete;
  ScopedMount& operator=(const ScopedMount&) = delete;

  explicit operator bool() const { return mounted_; }

 private:
  std::filesystem::path path_;
  bool mounted_;
};

/// A puzzlefs mount whose server is gone: the connection is closed before it began.
inline ScopedMount dead_mount(const std::filesystem::path& path) {
  const fetch::FileDescriptor device(::open("/dev/fuse", O_RDWR | O_CLOEXEC));
  return ScopedMount(path, "fuse.puzzlefs",
                     "fd=" + std::to_string(device.get()) + ",rootmode=40000,user_id=0,group_id=0");
}

}  // namespace puzzlefs::fs::test
