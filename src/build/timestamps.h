// Which times of modification an image keeps.
#pragma once

#include <cstdint>
#include <optional>

namespace puzzlefs::build {

enum class Timestamps {
  kKeep,   // as the tree has them
  kClamp,  // none later than the epoch
  kZero,   // none
};

struct TimestampRule {
  Timestamps kind = Timestamps::kKeep;
  std::int64_t epoch = 0;  // seconds since 1970, of kClamp
};

/// The time of modification to be recorded for `mtime`, both in nanoseconds since 1970.
std::int64_t recorded_time(const TimestampRule& rule, std::int64_t mtime);

/// The time that $SOURCE_DATE_EPOCH says, in seconds since 1970; nothing if it is not set or empty.
/// Throws UsageError if it is no such number.
std::optional<std::int64_t> source_date_epoch();

}  // namespace puzzlefs::build
