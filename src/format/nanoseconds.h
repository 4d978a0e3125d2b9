// Times as the metadata has them, and as Linux has them.
#pragma once

#include <cstdint>
#include <ctime>
#include <limits>

namespace puzzlefs::format {

inline constexpr std::int64_t kNanosecondsPerSecond = 1'000'000'000;

/// Nanoseconds since 1970 as a timespec, whose tv_nsec is never negative.
constexpr struct timespec to_timespec(std::int64_t nanoseconds) {
  std::int64_t seconds = nanoseconds / kNanosecondsPerSecond;
  std::int64_t rest = nanoseconds % kNanosecondsPerSecond;
  if (rest < 0) {
    rest += kNanosecondsPerSecond;
    --seconds;
  }
  return {.tv_sec = seconds, .tv_nsec = rest};
}

/// The reverse; of times beyond what 64 bits hold, some 292 years from 1970, the nearest full
/// second that they do.
constexpr std::int64_t to_nanoseconds(const struct timespec& time) {
  constexpr std::int64_t kLast =
      std::numeric_limits<std::int64_t>::max() / kNanosecondsPerSecond - 1;
  if (time.tv_sec > kLast || time.tv_sec < -kLast)
    return (time.tv_sec > 0 ? kLast : -kLast) * kNanosecondsPerSecond;
  return time.tv_sec * kNanosecondsPerSecond + time.tv_nsec;
}

}  // namespace puzzlefs::format
