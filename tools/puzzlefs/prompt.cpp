#include "puzzlefs/prompt.h"

#include <poll.h>
#include <termios.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <optional>

#include "format/error.h"

namespace puzzlefs::tools {

namespace {

// What the kernel's line editing takes, with the end of the line; it drops the rest.
constexpr std::size_t kMaxLine = 4096;

constexpr std::array kSignals{SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGTSTP};

// One process has one standard input: no two questions at a time.
volatile std::sig_atomic_t caught_signal = 0;

extern "C" void note_signal(int number) {
  caught_signal = number;
}

/// Holds back the signals that would leave the terminal as it is, except during waits.
class SignalsHeld {
 public:
  SignalsHeld() {
    caught_signal = 0;
    struct sigaction action {};
    action.sa_handler = note_signal;
    sigset_t held;
    sigemptyset(&held);
    for (const int number : kSignals) sigaddset(&held, number);
    pthread_sigmask(SIG_BLOCK, &held, &before_);
    for (std::size_t i = 0; i < kSignals.size(); ++i) {
      sigaction(kSignals[i], &action, &actions_[i]);
      // Ignored by whoever started us, as by nohup(1).
      if (actions_[i].sa_handler == SIG_IGN) sigaction(kSignals[i], &actions_[i], nullptr);
    }
  }
  ~SignalsHeld() {
    for (std::size_t i = 0; i < kSignals.size(); ++i) {
      sigaction(kSignals[i], &actions_[i], nullptr);
    }
    pthread_sigmask(SIG_SETMASK, &before_, nullptr);
  }
  SignalsHeld(const SignalsHeld&) = delete;
  SignalsHeld& operator=(const SignalsHeld&) = delete;

  /// Returns whether there is something to read: false for a signal.
  bool wait_for_input() const {
    pollfd source{STDIN_FILENO, POLLIN, 0};
    while (caught_signal == 0) {
      if (::ppoll(&source, 1, nullptr, &before_) >= 0) return true;
      if (errno != EINTR) throw_errno("wait for the terminal");
    }
    return false;
  }

 private:
  sigset_t before_;
  std::array<struct sigaction, kSignals.size()> actions_;
};

class EchoOff {
 public:
  explicit EchoOff(Echo echo) {
    if (echo == Echo::kOn) return;
    termios mode;
    if (::tcgetattr(STDIN_FILENO, &mode) != 0) throw_errno("use the terminal");
    before_ = mode;
    mode.c_lflag &= ~static_cast<tcflag_t>(ECHO);
    mode.c_lflag |= ECHONL;
    if (::tcsetattr(STDIN_FILENO, TCSAFLUSH, &mode) != 0) throw_errno("use the terminal");
  }
  ~EchoOff() {
    if (before_) ::tcsetattr(STDIN_FILENO, TCSAFLUSH, &*before_);
  }
  EchoOff(const EchoOff&) = delete;
  EchoOff& operator=(const EchoOff&) = delete;

 private:
  std::optional<termios> before_;
};

void strip_line_end(std::string& text) {
  if (!text.ends_with('\n')) return;
  text.pop_back();
  if (text.ends_with('\r')) text.pop_back();
}

/// Reads up to `size` bytes; fewer at the end.
std::string read_up_to(std::size_t size) {
  std::string text(size, '\0');
  std::size_t filled = 0;
  while (filled < size) {
    const auto got = ::read(STDIN_FILENO, text.data() + filled, size - filled);
    if (got == 0) break;
    if (got > 0) {
      filled += static_cast<std::size_t>(got);
    } else if (errno != EINTR) {
      throw_errno("read standard input");
    }
  }
  text.resize(filled);
  return text;
}

/// A line, or nothing if a signal came first.
std::optional<std::string> read_line(Echo echo) {
  const SignalsHeld signals;
  const EchoOff off(echo);
  std::string line(kMaxLine, '\0');
  ssize_t got = -1;
  do {
    if (!signals.wait_for_input()) return std::nullopt;
    got = ::read(STDIN_FILENO, line.data(), line.size());
  } while (got < 0 && errno == EINTR);
  if (got < 0) throw_errno("read from the terminal");
  line.resize(static_cast<std::size_t>(got));
  return line;
}

}  // namespace

bool can_ask() {
  return ::isatty(STDIN_FILENO) == 1;
}

std::string ask(std::ostream& out, const std::string& question, Echo echo) {
  std::optional<std::string> line;
  while (!line) {
    out << question << std::flush;
    line = read_line(echo);
    if (line) break;
    // The terminal is as it was, and so is what the signal does.
    out << "\n" << std::flush;
    std::raise(caught_signal);
  }
  if (line->empty()) throw Error(ENODATA, "The input ended before an answer.");
  if (line->size() >= kMaxLine - 1) {
    throw Error(EMSGSIZE,
                "The line is longer than a terminal takes. Give a long password through a pipe, "
                "with --password-stdin.");
  }
  strip_line_end(*line);
  return *line;
}

std::string read_standard_input(std::size_t max_size) {
  auto text = read_up_to(max_size + 3);  // its last line may end in two bytes
  strip_line_end(text);
  if (text.size() > max_size) {
    throw UsageError("Standard input has more than " + std::to_string(max_size) +
                     " bytes, which is too long for a password.");
  }
  return text;
}

}  // namespace puzzlefs::tools
