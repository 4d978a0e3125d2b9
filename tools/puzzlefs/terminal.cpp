#include "puzzlefs/terminal.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <iostream>

namespace puzzlefs::tools {

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
