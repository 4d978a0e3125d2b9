// How far a command is: a line on a terminal, or lines now and then where somebody reads them
// later.
#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <string>
#include <utility>

#include "puzzlefs/terminal.h"

namespace puzzlefs::tools {

enum class ProgressMode {
  kAuto,   // a line that is drawn over itself, on a terminal; else nothing
  kPlain,  // a line every two seconds, and one at the end
  kNone,
};

/// Shows "<label>: 12.0 MiB of 30.0 MiB, 3.1 MiB/s" as the mode says. What is drawn is removed on
/// destruction; then the last plain line is written. Not thread-safe.
class Progress {
 public:
  struct State {
    std::uint64_t bytes = 0;
    std::uint64_t total = 0;  // 0 means unknown
    std::uint64_t moved = 0;  // of `bytes`, what took time: the rate is that of these
    std::string note = {};    // put at the end of the line
  };

  Progress(Terminal& terminal, std::string label, ProgressMode mode = ProgressMode::kAuto);
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  void update(State state);

 private:
  using Clock = std::chrono::steady_clock;

  std::string line(Clock::duration rate_span, std::uint64_t moved) const;
  void draw(Clock::time_point now);
  void write(const std::string& text);

  Terminal& terminal_;
  const std::string label_;
  const ProgressMode mode_;
  const Clock::time_point started_ = Clock::now();
  Clock::time_point shown_;
  State state_;
  bool updated_ = false;
  /// When how much had moved, for the last seconds.
  std::deque<std::pair<Clock::time_point, std::uint64_t>> samples_;
};

}  // namespace puzzlefs::tools
