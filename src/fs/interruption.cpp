// The kernel shows a thread's signals as masks in /proc, see proc_pid_status(5).
#include "fs/interruption.h"

#include <csignal>
#include <cstdint>
#include <fstream>
#include <initializer_list>
#include <string>

namespace puzzlefs::fs {
namespace {

constexpr std::uint64_t mask_of(std::initializer_list<int> signals) {
  std::uint64_t mask = 0;
  for (const int signal : signals) mask |= std::uint64_t{1} << (signal - 1);
  return mask;
}

constexpr std::uint64_t kStop = mask_of({SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGKILL});
/// Those that nobody dies of who does nothing about them.
constexpr std::uint64_t kHarmless =
    mask_of({SIGCHLD, SIGURG, SIGWINCH, SIGCONT, SIGSTOP, SIGTSTP, SIGTTIN, SIGTTOU});

}  // namespace

bool is_told_to_stop(pid_t thread) {
  std::ifstream status("/proc/" + std::to_string(thread) + "/status");
  std::uint64_t pending = 0;
  std::uint64_t inert = 0;  // blocked or ignored
  std::uint64_t caught = 0;
  bool is_complete = false;
  std::string name;
  std::string value;
  while (status >> name && std::getline(status, value)) {
    const auto mask = [&] { return std::stoull(value, nullptr, 16); };
    if (name == "SigPnd:" || name == "ShdPnd:") pending |= mask();
    if (name == "SigBlk:" || name == "SigIgn:") inert |= mask();
    if (name == "SigCgt:") {
      caught = mask();
      is_complete = true;
    }
  }
  return is_complete && (pending & ~inert & (kStop | ~(caught | kHarmless))) != 0;
}

}  // namespace puzzlefs::fs
