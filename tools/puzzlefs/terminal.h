// The terminal as the commands see it: one object that tests replace.
#pragma once

#include <ostream>
#include <string>

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

/// `text` with control characters, ends of lines among them, replaced by '?'. For all that is
/// printed of what a registry or an image says, which must not steer a terminal or pass for a
/// message of its own.
std::string harmless(std::string text);

/// "512 B", "1.2 MiB": a size for people, in powers of 1024.
std::string human_size(std::uint64_t bytes);

/// "1 chunk", "2 chunks".
std::string counted(std::uint64_t count, const std::string& noun);

}  // namespace puzzlefs::tools
