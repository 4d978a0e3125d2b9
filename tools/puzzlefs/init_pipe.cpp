#include "puzzlefs/init_pipe.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>

#include "format/error.h"

namespace puzzlefs::tools {

InitPipe::InitPipe(const std::filesystem::path& path) {
  if (path.empty()) return;
  struct stat status {};
  if (::stat(path.c_str(), &status) != 0) throw_errno("use the pipe " + path.native());
  if (!S_ISFIFO(status.st_mode)) {
    throw UsageError(path.native() + " is not a named pipe. Make one with \"mkfifo\".");
  }
  pipe_ = fetch::FileDescriptor(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
  if (!pipe_) throw_errno("open the pipe " + path.native());
  std::signal(SIGPIPE, SIG_IGN);  // a reader that has gone is told nothing
}

InitPipe::~InitPipe() {
  tell('f');
}

void InitPipe::tell_success() {
  tell('s');
}

void InitPipe::close() {
  pipe_ = fetch::FileDescriptor();
}

void InitPipe::tell(char letter) {
  if (!pipe_) return;
  while (::write(pipe_.get(), &letter, 1) < 0 && errno == EINTR) continue;
  close();
}

}  // namespace puzzlefs::tools
