// One FUSE session: the kernel's requests answered from a tree and a chunk store.
#pragma once

#include <cstddef>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "fetch/chunk_store.h"
#include "fetch/runtime.h"
#include "fetch/whole_files.h"
#include "fs/control_paths.h"
#include "fs/control_socket.h"
#include "fs/live_xattrs.h"
#include "fs/overlay.h"
#include "fs/tree.h"

namespace puzzlefs::fs {

/// A socket for programs that ask about the mount, see fs/control_paths.h.
struct ControlOptions {
  fetch::Runtime& runtime;  // must outlive the session
  ControlHandlers handlers;
  std::vector<std::filesystem::path> directories = control_directories();
};

struct SessionOptions {
  /// Mount options as for mount(8), without "-o".
  std::vector<std::string> mount_options;
  /// What /proc/mounts shows as the device.
  std::string source;
  /// Makes the mount writable.
  std::optional<OverlayOptions> overlay;
  unsigned threads = 2;
  /// Makes opens and reads that wait for chunks fail. Called once, at the end, so that it does not
  /// take as long as a registry that does not answer. Without it the end waits for them.
  std::function<void()> cancel_reads;
  /// Files to read instead of chunks, where it has them; null if there are none. Must outlive the
  /// session.
  fetch::WholeFiles* whole_files = nullptr;
  /// Whether no chunk is waited for longer than a disk takes. Then the kernel is given what small
  /// reads leave over of one. It may wait with that for an answer to what it reads itself, and so
  /// does whoever unmounts meanwhile.
  bool has_local_chunks = false;
  /// Whether the kernel may read those by itself, where it can.
  bool passthrough = true;
  /// At most so many files are read whole at a time, since each takes a descriptor; what is opened
  /// beyond that is read chunk by chunk. By default half as many as the process may have open.
  std::optional<std::size_t> max_whole_files;
  LiveXattrs root_xattrs = {};
  /// While run() serves there is a control socket, whose path is an attribute of the root. If it
  /// cannot be made there is none, with a warning.
  std::optional<ControlOptions> control = {};
};

/// A mounted image. It lets the process open as many files as its hard limit permits. The session's
/// threads wait for nothing but the kernel and local files: opens and reads that need the network
/// are answered from the fetch that completes them.
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
