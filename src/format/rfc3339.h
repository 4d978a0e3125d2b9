// Times as documents write them: RFC 3339, "2026-11-25T13:00:00Z".
#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <string_view>

namespace puzzlefs::format {

using Time = std::chrono::sys_time<std::chrono::nanoseconds>;

/// The time that the text says, with or without a fraction of the second, of whichever zone;
/// nothing for what is none, or is before 1970 or after 2200.
std::optional<Time> parse_time(std::string_view text);

/// The text that parse_time() reads, with nine digits of the second's fraction.
std::string to_text(Time time);

}  // namespace puzzlefs::format
