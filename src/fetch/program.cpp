#include "fetch/program.h"

#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <spdlog/fmt/fmt.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <utility>

#include "fetch/file_descriptor.h"
#include "format/error.h"

namespace puzzlefs::fetch {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::size_t kMaxOutput = 64 << 10;

struct Pipe {
  FileDescriptor read;
  FileDescriptor write;
};

Pipe make_pipe() {
  std::array<int, 2> ends;
  if (::pipe2(ends.data(), O_CLOEXEC) != 0) throw_errno("make a pipe");
  return {FileDescriptor(ends[0]), FileDescriptor(ends[1])};
}

/// Its input is there at once: it fits a pipe, or the program would wait for us and we for it.
Pipe make_input(std::string_view input) {
  auto pipe = make_pipe();
  if (::fcntl(pipe.write.get(), F_SETFL, O_NONBLOCK) != 0) throw_errno("write into a pipe");
  const auto written = ::write(pipe.write.get(), input.data(), input.size());
  if (written < 0 && errno != EAGAIN) throw_errno("write into a pipe");
  if (written != static_cast<ssize_t>(input.size())) {
    throw Error(EMSGSIZE,
                fmt::format("The {} bytes for a program do not fit a pipe.", input.size()));
  }
  pipe.write = FileDescriptor();
  return pipe;
}

/// In a process group of its own if that is wanted, to be ended with all that it starts.
pid_t spawn(const std::vector<std::string>& arguments, int input, int output, int errors,
            bool own_group) {
  std::vector<char*> words;
  // execve(2) does not change its arguments, whatever their type says.
  for (const auto& argument : arguments) words.push_back(const_cast<char*>(argument.c_str()));
  words.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, input, STDIN_FILENO);
  posix_spawn_file_actions_adddup2(&actions, output, STDOUT_FILENO);
  posix_spawn_file_actions_adddup2(&actions, errors, STDERR_FILENO);
  posix_spawnattr_t attributes;
  sigset_t none;
  sigset_t ignored;
  sigemptyset(&none);
  sigemptyset(&ignored);
  for (const int signal : {SIGPIPE, SIGXFSZ}) sigaddset(&ignored, signal);  // that is inherited
  posix_spawnattr_init(&attributes);
  posix_spawnattr_setsigmask(&attributes, &none);
  posix_spawnattr_setsigdefault(&attributes, &ignored);
  posix_spawnattr_setpgroup(&attributes, 0);
  const int group = own_group ? POSIX_SPAWN_SETPGROUP : 0;
  posix_spawnattr_setflags(
      &attributes, static_cast<short>(POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | group));
  pid_t pid = -1;
  const int code = posix_spawnp(&pid, words[0], &actions, &attributes, words.data(), environ);
  posix_spawnattr_destroy(&attributes);
  posix_spawn_file_actions_destroy(&actions);
  if (code == ENOENT) throw NotFoundError("There is no program " + arguments[0] + " in $PATH.");
  if (code != 0) throw_errno("run " + arguments[0], code);
  return pid;
}

/// A running program, which does not outlive the object.
class Child {
 public:
  Child(pid_t pid, bool own_group) : pid_(pid), own_group_(own_group) {}
  ~Child() {
    if (pid_ < 0) return;
    if (own_group_) ::kill(-pid_, SIGKILL);
    ::kill(pid_, SIGKILL);
    wait();
  }
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;

  /// Becomes readable at the program's end. Nothing with a kernel or a sandbox that lacks that.
  FileDescriptor end() const {
    return FileDescriptor(static_cast<int>(::syscall(SYS_pidfd_open, pid_, 0)));
  }
  int wait() {
    int status = 0;
    while (::waitpid(pid_, &status, 0) < 0 && errno == EINTR) continue;
    pid_ = -1;
    return status;
  }

 private:
  pid_t pid_;
  const bool own_group_;
};

/// Milliseconds for poll(2).
int remaining(std::optional<Clock::time_point> deadline) {
  if (!deadline) return -1;
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(*deadline - Clock::now()).count();
  return static_cast<int>(std::max<decltype(left)>(left, 0));
}

/// Reads what there is. 0 at the end.
std::size_t read_some(int fd, std::string& text) {
  std::array<char, 4096> buffer;
  ssize_t count = 0;
  do {
    count = ::read(fd, buffer.data(), buffer.size());
  } while (count < 0 && errno == EINTR);
  if (count <= 0) return 0;
  const auto got = static_cast<std::size_t>(count);
  const auto room = kMaxOutput - std::min(kMaxOutput, text.size());
  text.append(buffer.data(), std::min(room, got));
  return got;
}

/// Reads what is in a pipe at this moment, however long others go on to write.
void drain(int fd, std::string& text) {
  int held = 0;
  if (::ioctl(fd, FIONREAD, &held) != 0) return;
  for (auto left = static_cast<std::size_t>(held); left > 0;) {
    const auto got = read_some(fd, text);
    if (got == 0) return;
    left -= std::min(left, got);
  }
}

/// Reads both outputs until the program's end: what it left in the background may hold them open
/// for longer. If that end cannot be seen, until theirs. False if the deadline came first.
bool read_all(const FileDescriptor& output, const FileDescriptor& errors, const FileDescriptor& end,
              ProgramResult& result, std::optional<Clock::time_point> deadline) {
  std::array<pollfd, 3> sources{pollfd{output.get(), POLLIN, 0}, pollfd{errors.get(), POLLIN, 0},
                                pollfd{end.get(), POLLIN, 0}};
  const std::array<std::string*, 2> texts{&result.output, &result.errors};
  while (sources[0].fd >= 0 || sources[1].fd >= 0 || sources[2].fd >= 0) {
    const int ready = ::poll(sources.data(), sources.size(), remaining(deadline));
    if (ready == 0) return false;
    if (ready < 0 && errno != EINTR) throw_errno("wait for a program");
    if (ready < 0) continue;
    const bool ended = sources[2].revents != 0;
    for (std::size_t i = 0; i < texts.size(); ++i) {
      if (sources[i].fd < 0) continue;
      if (ended) {
        drain(sources[i].fd, *texts[i]);
      } else if (sources[i].revents != 0 && read_some(sources[i].fd, *texts[i]) == 0) {
        sources[i].fd = -1;
      }
    }
    if (ended) return true;
  }
  return true;
}

}  // namespace

ProgramResult run_program(const std::vector<std::string>& arguments, std::string_view input,
                          std::optional<std::chrono::seconds> timeout) {
  auto in = make_input(input);
  auto out = make_pipe();
  auto err = make_pipe();
  // Only with a timeout: else nobody ends the group, and it stays on the terminal as we are.
  const bool own_group = timeout.has_value();
  Child child(spawn(arguments, in.read.get(), out.write.get(), err.write.get(), own_group),
              own_group);
  out.write = FileDescriptor();
  err.write = FileDescriptor();

  ProgramResult result;
  std::optional<Clock::time_point> deadline;
  if (timeout) deadline = Clock::now() + *timeout;
  if (!read_all(out.read, err.read, child.end(), result, deadline)) {
    throw Error(ETIMEDOUT,
                fmt::format("{} did not end within {} s.", arguments[0], timeout->count()));
  }
  result.status = child.wait();
  return result;
}

}  // namespace puzzlefs::fetch
