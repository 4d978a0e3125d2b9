#include "puzzlefs/terminal.h"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <iostream>
#include <mutex>

namespace puzzlefs::tools {

namespace {

constexpr std::string_view kEraseLine = "\r\x1b[K";  // ECMA-48: carriage return, erase in line

// Held while standard error is written to, as that is what it guards.
std::mutex line_mutex;
std::ostream* line_stream = nullptr;  // where a line is drawn

// What fits into a line: one that goes on below could not be erased.
std::size_t line_width() {
  struct winsize size {};
  const bool known = ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 1;
  return known ? size.ws_col - 1U : std::string_view::npos;
}

void erase_locked() {
  if (line_stream != nullptr) *line_stream << kEraseLine << std::flush;
  line_stream = nullptr;
}

}  // namespace

void draw_progress_line(std::ostream& err, std::string_view text) {
  const std::lock_guard lock(line_mutex);
  err << kEraseLine << text.substr(0, line_width()) << std::flush;
  line_stream = &err;
}

void erase_progress_line(std::ostream& err) {
  const std::lock_guard lock(line_mutex);
  if (line_stream == &err) erase_locked();
}

void write_past_progress_line(const std::function<void()>& write) {
  const std::lock_guard lock(line_mutex);
  erase_locked();
  write();
}

Terminal::Terminal(std::ostream& out_stream, std::ostream& err_stream)
    : out(out_stream),
      err(err_stream),
      shows_progress(&err_stream == &std::cerr && isatty(STDERR_FILENO) == 1) {}

std::string harmless(std::string text) {
  std::replace_if(
      text.begin(), text.end(), [](unsigned char c) { return c < 0x20 || c == 0x7f; }, '?');
  // U+0080 to U+009F: U+009B, for one, begins a command as ESC [ does.
  for (std::size_t at = 0; (at = text.find('\xc2', at)) != std::string::npos; ++at) {
    const unsigned char next = at + 1 < text.size() ? text[at + 1] : 0;
    if (next >= 0x80 && next < 0xa0) text.replace(at, 2, "?");
  }
  return text;
}

std::string human_size(std::uint64_t bytes) {
  if (bytes < 1024) return fmt::format("{} B", bytes);
  constexpr std::array kUnits = {"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
  double value = static_cast<double>(bytes) / 1024;
  std::size_t unit = 0;
  for (; value >= 1024 && unit + 1 < kUnits.size(); ++unit) value /= 1024;
  return fmt::format("{:.1f} {}", value, kUnits[unit]);
}

std::string counted(std::uint64_t count, const std::string& noun) {
  return fmt::format("{} {}{}", count, noun, count == 1 ? "" : "s");
}

}  // namespace puzzlefs::tools
