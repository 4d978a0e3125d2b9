#include "puzzlefs/scratch_directory.h"

#include <unistd.h>

#include <array>
#include <cstdlib>
#include <string>
#include <system_error>

#include "format/error.h"

namespace puzzlefs::tools {
namespace {

constexpr std::array kSignals{SIGINT, SIGTERM, SIGHUP, SIGQUIT};
// How often the watcher looks whether it is still needed.
constexpr timespec kPatience{.tv_sec = 0, .tv_nsec = 50'000'000};
// Somebody else may be putting files there while all is removed at a signal.
constexpr int kAttempts = 10;

std::filesystem::path make_directory() {
  const char* parent = std::getenv("TMPDIR");
  std::string path =
      std::string(parent != nullptr && *parent != '\0' ? parent : "/tmp") + "/puzzlefs.XXXXXX";
  if (::mkdtemp(path.data()) == nullptr) throw_errno("make a temporary directory " + path);
  return path;
}

// Without those that whoever started us has us ignore, as nohup(1) does.
sigset_t deadly_signals() {
  sigset_t signals;
  sigemptyset(&signals);
  for (const int number : kSignals) {
    struct sigaction action {};
    sigaction(number, nullptr, &action);
    if (action.sa_handler == SIG_DFL) sigaddset(&signals, number);
  }
  return signals;
}

}  // namespace

ScratchDirectory::ScratchDirectory() : path_(make_directory()), signals_(deadly_signals()) {
  pthread_sigmask(SIG_BLOCK, &signals_, &before_);
  watcher_ = std::jthread([this](const std::stop_token& stop) { wait_for_signal(stop); });
}

ScratchDirectory::~ScratchDirectory() {
  watcher_.request_stop();
  watcher_.join();
  remove();
  pthread_sigmask(SIG_SETMASK, &before_, nullptr);
}

void ScratchDirectory::remove() const {
  std::error_code error;
  for (int attempt = 0; attempt < kAttempts; ++attempt) {
    std::filesystem::remove_all(path_, error);
    if (!error) return;
  }
}

void ScratchDirectory::wait_for_signal(const std::stop_token& stop) const {
  while (!stop.stop_requested()) {
    const int number = sigtimedwait(&signals_, nullptr, &kPatience);
    if (number < 0) continue;  // none came
    remove();
    // As if it had not been held back. The process ends here.
    sigset_t one;
    sigemptyset(&one);
    sigaddset(&one, number);
    pthread_sigmask(SIG_UNBLOCK, &one, nullptr);
    ::raise(number);
  }
}

}  // namespace puzzlefs::tools
