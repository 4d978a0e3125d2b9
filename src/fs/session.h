// One FUSE session: the kernel's requests answered from a tree and a chunk store.
#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "fetch/chunk_store.h"
#include "fs/overlay.h"
#include "fs/tree.h"

namespace puzzlefs::fs {

struct SessionOptions {
  /// Mount options as for mount(8), without "-o".
  std::vector<std::string> mount_options;
  /// What /proc/mounts shows as the device.
  std::string source;
  /// Makes the mount writable.
  std::optional<OverlayOptions> overlay;
  unsigned threads = 2;
  /// Makes reads that wait for chunks fail. Called once, at the end, so that it does not take as
  /// long as a registry that does not answer. Without it the end waits for them.
  std::function<void()> cancel_reads;
};

/// A mounted image. The session's threads wait for nothing but the kernel: reads that need the
/// network are answered from the fetch that completes them.
class Session {
 public:
  /// Mounts. `tree` and `chunks` must outlive the session; block_termination_signals() must have
  /// been called. Throws Error, saying what to do where fusermount3 or /dev/fuse is missing.
  Session(Tree& tree, fetch::ChunkStore& chunks, const std::filesystem::path& mountpoint,
          const SessionOptions& options);
  /// Unmounts if still mounted, and waits for the reads that are still under way, which it cancels
  /// (see SessionOptions).
  ~Session();
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  /// Serves until the file system is unmounted, or SIGTERM, SIGINT or SIGHUP arrives (then it
  /// unmounts, lazily). `on_ready` is called once, when the mount can be used; other threads are
  /// serving by then. What it throws ends the session. Call it once.
  void run(const std::function<void()>& on_ready);

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace puzzlefs::fs
