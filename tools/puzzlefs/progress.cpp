#include "puzzlefs/progress.h"

#include <fmt/format.h>

#include <utility>

namespace puzzlefs::tools {

namespace {

constexpr std::chrono::milliseconds kInterval{100};
constexpr std::string_view kEraseLine = "\r\x1b[K";  // ECMA-48: carriage return, erase in line

}  // namespace

Progress::Progress(Terminal& terminal, std::string label)
    : terminal_(terminal), label_(std::move(label)) {}

Progress::~Progress() {
  if (visible_) terminal_.err << kEraseLine << std::flush;
}

void Progress::update(std::uint64_t bytes, std::uint64_t total, const std::string& note) {
  const auto now = Clock::now();
  if (!terminal_.shows_progress || now - drawn_ < kInterval) return;
  const double seconds = std::chrono::duration<double>(now - started_).count();
  const auto rate = static_cast<std::uint64_t>(static_cast<double>(bytes) / (seconds + 1e-9));
  terminal_.err << kEraseLine << label_ << ": " << human_size(bytes)
                << (total != 0 ? " of " + human_size(total) : "") << ", " << human_size(rate)
                << "/s" << (note.empty() ? "" : ", " + note) << std::flush;
  drawn_ = now;
  visible_ = true;
}

}  // namespace puzzlefs::tools
