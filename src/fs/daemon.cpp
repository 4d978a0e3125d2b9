// The two processes of a background mount talk over a pipe: the child writes one letter, and after
// the letter of an error its errno and sentence. A pipe that closes without a letter means that the
// child died.
#include "fs/daemon.h"

#include <fcntl.h>
#include <spdlog/fmt/fmt.h>
#include <spdlog/spdlog.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <string_view>
#include <utility>

#include "fetch/file_descriptor.h"
#include "format/error.h"

namespace puzzlefs::fs {
namespace {

enum Letter : char { kReady = 'R', kFailed = 'F', kMisused = 'U' };

void write_all(int fd, std::string_view text) {
  while (!text.empty()) {
    const auto count = ::write(fd, text.data(), text.size());
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return;  // the parent has gone: nobody to tell
    text.remove_prefix(static_cast<std::size_t>(count));
  }
}

/// What the child says until it closes its end or is ready.
std::string read_report(int fd) {
  std::string report;
  std::array<char, 512> buffer;
  while (report.empty() || report.front() != kReady) {
    const auto count = ::read(fd, buffer.data(), buffer.size());
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) break;
    report.append(buffer.data(), static_cast<std::size_t>(count));
  }
  return report;
}

void write_error(int fd, Letter letter, int code, std::string_view sentence) {
  std::string report(1, letter);
  report.append(reinterpret_cast<const char*>(&code), sizeof code);
  report.append(sentence);
  write_all(fd, report);
}

void detach_streams() {
  const int null = ::open("/dev/null", O_RDWR | O_CLOEXEC);
  if (null < 0) return;
  std::fflush(nullptr);
  for (const int stream : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) ::dup2(null, stream);
  if (null > STDERR_FILENO) ::close(null);
}

/// The child: tells the parent how it went, or the log once the parent has been told.
int run_child(const BackgroundTask& task, int pipe) {
  bool told = false;
  const auto ready = [&] {
    if (std::exchange(told, true)) return;
    // Until here a program that the task runs could still say on the terminal what went wrong.
    detach_streams();
    write_all(pipe, std::string(1, kReady));
  };
  const auto fail = [&](Letter letter, int code, const char* sentence) {
    if (told) {
      spdlog::error("{}", sentence);
    } else {
      write_error(pipe, letter, code, sentence);
    }
    return EXIT_FAILURE;
  };
  try {
    if (::chdir("/") != 0) throw_errno("change to the directory /");
    task(ready);
    return EXIT_SUCCESS;
  } catch (const UsageError& error) {
    return fail(kMisused, error.code(), error.what());
  } catch (const Error& error) {
    return fail(kFailed, error.code(), error.what());
  } catch (const std::exception& error) {
    return fail(kFailed, EIO, error.what());
  }
}

int wait_for_exit(pid_t child) {
  int status = 0;
  while (::waitpid(child, &status, 0) < 0) {
    if (errno != EINTR) throw_errno("wait for the background process");
  }
  return status;
}

void expect_ready(pid_t child, const std::string& report) {
  if (report == std::string(1, kReady)) return;
  const int status = wait_for_exit(child);
  int code = 0;
  if (report.size() < 1 + sizeof code) {
    const auto how = WIFSIGNALED(status) ? fmt::format(" ({})", strsignal(WTERMSIG(status))) : "";
    throw Error(EIO, "The background process ended unexpectedly" + how + ".");
  }
  std::memcpy(&code, report.data() + 1, sizeof code);
  const auto sentence = report.substr(1 + sizeof code);
  if (report.front() == kMisused) throw UsageError(sentence);
  throw Error(code, sentence);
}

}  // namespace

void block_termination_signals() {
  sigset_t signals;
  sigemptyset(&signals);
  for (const int signal : {SIGTERM, SIGINT, SIGHUP}) sigaddset(&signals, signal);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
}

void open_missing_streams() {
  for (const int stream : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
    if (::fcntl(stream, F_GETFD) >= 0) continue;
    // The lowest free number, which is this one.
    if (::open("/dev/null", O_RDWR) < 0) return;  // NOLINT(android-cloexec-open): for children too
  }
}

void run_in_background(const BackgroundTask& task) {
  std::array<int, 2> ends;
  if (::pipe2(ends.data(), O_CLOEXEC) != 0) throw_errno("make a pipe");
  fetch::FileDescriptor reading(ends[0]);
  fetch::FileDescriptor writing(ends[1]);
  std::fflush(nullptr);  // or both processes would write what is buffered
  const auto child = ::fork();
  if (child < 0) throw_errno("start a background process");
  if (child == 0) {
    reading = fetch::FileDescriptor();
    ::setsid();
    std::signal(SIGPIPE, SIG_IGN);
    const int status = run_child(task, writing.get());
    spdlog::default_logger()->flush();
    std::_Exit(status);  // what is registered for exit belongs to the parent
  }
  writing = fetch::FileDescriptor();
  expect_ready(child, read_report(reading.get()));
}

}  // namespace puzzlefs::fs
