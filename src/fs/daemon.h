// Going to the background, and unmounting.
#pragma once

#include <filesystem>
#include <functional>
#include <string>

namespace puzzlefs::fs {

/// Runs `child` in a background process: a session of its own, standard streams on /dev/null,
/// working directory "/". Must be called while the process has one thread.
/// The caller's process returns when the child calls `ready()`, with nothing, or when it fails, with
/// the sentence of its error (or "… ended unexpectedly" if it died without one).
/// The child's process never returns: it exits with 0, or 1 after an error.
class Background {
 public:
  using Ready = std::function<void()>;
  /// Throws Error with the child's sentence if the child failed before it was ready.
  static void run(const std::function<void(const Ready& ready)>& child);
};

/// Unmounts a puzzlefs mount: umount2(2) when privileged, else fusermount3. Throws Error, saying
/// whether it is no mount at all, not one of puzzlefs, or busy. `lazy` detaches a busy one.
void unmount(const std::filesystem::path& mountpoint, bool lazy);

}  // namespace puzzlefs::fs
