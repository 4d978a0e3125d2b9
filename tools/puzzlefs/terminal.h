// The terminal as the commands see it: one object that tests replace.
#pragma once

#include <functional>
#include <ostream>
#include <string>
#include <string_view>

namespace puzzlefs::tools {

/// Results go to out, all else to err.
class Terminal {
 public:
  Terminal(std::ostream& out_stream, std::ostream& err_stream);

  std::ostream& out;
  std::ostream& err;
  /// Whether err is a terminal, that is whether a progress line can be drawn there.
  bool shows_progress;
};

/// The line at the end of standard error that is drawn over itself. The process has one, as it has
/// one terminal. Thread-safe: messages of other threads take its place, and it is drawn anew below.
/// It is cut where the terminal ends; `text` is ASCII.
void draw_progress_line(std::ostream& err, std::string_view text);
void erase_progress_line(std::ostream& err);
/// Runs `write`, which writes whole lines to standard error, with the progress line out of its way.
void write_past_progress_line(const std::function<void()>& write);

/// `text` with control characters, ends of lines among them, replaced by '?'. For all that is
/// printed of what a registry or an image says, which must not steer a terminal or pass for a
/// message of its own.
std::string harmless(std::string text);

/// "512 B", "1.2 MiB": a size for people, in powers of 1024.
std::string human_size(std::uint64_t bytes);

/// "1 chunk", "2 chunks".
std::string counted(std::uint64_t count, const std::string& noun);

}  // namespace puzzlefs::tools
