// The named pipe by which a mount tells whoever started it how it went.
#pragma once

#include <filesystem>

#include "fetch/file_descriptor.h"

namespace puzzlefs::tools {

/// Writes one letter into a FIFO: 's' when the mount can be used, 'f' when it failed, as the Rust
/// puzzlefs does.
class InitPipe {
 public:
  /// Waits for the FIFO's reader. With an empty path it does nothing, here and later. Throws Error;
  /// UsageError for what is no FIFO.
  explicit InitPipe(const std::filesystem::path& path);
  /// Tells of failure, unless something was told or the pipe was closed.
  ~InitPipe();
  InitPipe(const InitPipe&) = delete;
  InitPipe& operator=(const InitPipe&) = delete;

  void tell_success();
  /// For a process that is not the one to tell.
  void close();

 private:
  void tell(char letter);

  fetch::FileDescriptor pipe_;
};

}  // namespace puzzlefs::tools
