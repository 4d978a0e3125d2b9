// Running fusermount3 and giving its complaints as ours.
#include "fs/fusermount.h"

#include <fcntl.h>
#include <spawn.h>
#include <spdlog/fmt/fmt.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <boost/algorithm/string/classification.hpp>
#include <boost/algorithm/string/split.hpp>
#include <boost/algorithm/string/trim.hpp>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <vector>

#include "fetch/file_descriptor.h"
#include "format/error.h"

namespace puzzlefs::fs {
namespace {

constexpr const char* kProgram = "fusermount3";

/// Its messages come through `errors`; signals that this process blocks are not blocked there.
pid_t spawn(std::vector<const char*> arguments, int errors) {
  posix_spawn_file_actions_t actions;
  posix_spawnattr_t attributes;
  sigset_t none;
  sigemptyset(&none);
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, errors, STDERR_FILENO);
  posix_spawnattr_init(&attributes);
  posix_spawnattr_setsigmask(&attributes, &none);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK);
  arguments.push_back(nullptr);
  pid_t pid = -1;
  // execve(2) does not change its arguments, whatever their type says.
  const int code = posix_spawnp(&pid, kProgram, &actions, &attributes,
                                const_cast<char* const*>(arguments.data()), environ);
  posix_spawnattr_destroy(&attributes);
  posix_spawn_file_actions_destroy(&actions);
  if (code != 0) throw_errno(std::string("run ") + kProgram, code);
  return pid;
}

std::string read_all(int fd) {
  std::string text;
  std::array<char, 512> buffer;
  while (true) {
    const auto count = ::read(fd, buffer.data(), buffer.size());
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return text;
    text.append(buffer.data(), static_cast<std::size_t>(count));
  }
}

int wait_for_exit(pid_t pid) {
  int status = 0;
  while (::waitpid(pid, &status, 0) < 0) {
    if (errno != EINTR) throw_errno(std::string("wait for ") + kProgram);
  }
  return status;
}

}  // namespace

bool has_fusermount() {
  const char* path = std::getenv("PATH");
  std::vector<std::string> directories;
  boost::algorithm::split(directories, path == nullptr ? "" : path,
                          boost::algorithm::is_any_of(":"));
  directories.emplace_back("/usr/bin");  // where libfuse looks first
  return std::any_of(directories.begin(), directories.end(), [](const std::string& directory) {
    return ::access((directory + "/" + kProgram).c_str(), X_OK) == 0;
  });
}

void fusermount_unmount(const std::string& mountpoint, bool lazy) {
  if (!has_fusermount()) {
    throw Error(EPERM, fmt::format("Unmounting {} takes root or the program fusermount3, which is "
                                   "not installed. Install it with \"apt-get install fuse3\".",
                                   mountpoint));
  }
  std::array<int, 2> ends;
  if (::pipe2(ends.data(), O_CLOEXEC) != 0) throw_errno("make a pipe");
  const fetch::FileDescriptor reading(ends[0]);
  fetch::FileDescriptor writing(ends[1]);

  std::vector<const char*> arguments = {kProgram, "-u"};
  if (lazy) arguments.push_back("-z");
  arguments.insert(arguments.end(), {"--", mountpoint.c_str()});
  const auto pid = spawn(std::move(arguments), writing.get());
  writing = fetch::FileDescriptor();
  auto message = read_all(reading.get());
  if (wait_for_exit(pid) == 0) return;
  boost::algorithm::trim(message);
  throw Error(EPERM, fmt::format("Cannot unmount {}: {}.", mountpoint,
                                 message.empty() ? "fusermount3 failed" : message));
}

}  // namespace puzzlefs::fs
