// A directory for what a command needs while it runs.
#pragma once

#include <csignal>
#include <filesystem>
#include <thread>

namespace puzzlefs::tools {

/// In $TMPDIR or /tmp, under a name of its own; removed with all that it holds on destruction, and
/// when a signal ends the process before that. To be made before other threads are: they must not
/// take these signals. One at a time.
class ScratchDirectory {
 public:
  /// Throws Error.
  ScratchDirectory();
  ~ScratchDirectory();
  ScratchDirectory(const ScratchDirectory&) = delete;
  ScratchDirectory& operator=(const ScratchDirectory&) = delete;

  const std::filesystem::path& path() const { return path_; }

 private:
  void remove() const;
  void wait_for_signal(const std::stop_token& stop) const;

  std::filesystem::path path_;
  sigset_t signals_{};  // that would end the process
  sigset_t before_{};
  std::jthread watcher_;  // last: it uses all above
};

}  // namespace puzzlefs::tools
