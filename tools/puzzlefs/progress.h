// A progress line on a terminal; nothing where there is none.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

#include "puzzlefs/terminal.h"

namespace puzzlefs::tools {

/// Draws "<label>: 12.0 MiB of 30.0 MiB, 3.1 MiB/s" over itself, at most ten times a second, and
/// removes it on destruction. Not thread-safe.
class Progress {
 public:
  Progress(Terminal& terminal, std::string label);
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  /// `total` 0 means unknown; `note` is put at the end of the line.
  void update(std::uint64_t bytes, std::uint64_t total = 0, const std::string& note = {});

 private:
  using Clock = std::chrono::steady_clock;

  Terminal& terminal_;
  std::string label_;
  Clock::time_point started_ = Clock::now();
  Clock::time_point drawn_;
  bool visible_ = false;
};

}  // namespace puzzlefs::tools
