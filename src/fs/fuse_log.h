// What libfuse has to say.
#pragma once

#include <string>

namespace puzzlefs::fs {

/// Sends libfuse's messages to the log from now on, for the whole process, instead of to stderr.
void route_fuse_log();

/// While it exists, messages of this thread's calls into libfuse are kept here and not logged: they
/// become part of an error. Needs route_fuse_log().
class FuseLogCapture {
 public:
  FuseLogCapture();
  ~FuseLogCapture();
  FuseLogCapture(const FuseLogCapture&) = delete;
  FuseLogCapture& operator=(const FuseLogCapture&) = delete;

  /// The messages as one line, empty if there were none.
  std::string text() const;

 private:
  std::string messages_;
};

}  // namespace puzzlefs::fs
