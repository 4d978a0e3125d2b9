#include "build/timestamps.h"

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <string>
#include <string_view>
#include <system_error>

#include "format/error.h"
#include "format/nanoseconds.h"

namespace puzzlefs::build {

std::int64_t recorded_time(const TimestampRule& rule, std::int64_t mtime) {
  switch (rule.kind) {
    case Timestamps::kKeep:
      return mtime;
    case Timestamps::kClamp:
      return std::min(mtime, format::to_nanoseconds({.tv_sec = rule.epoch, .tv_nsec = 0}));
    case Timestamps::kZero:
      return 0;
  }
  return 0;
}

std::optional<std::int64_t> source_date_epoch() {
  const char* const value = std::getenv("SOURCE_DATE_EPOCH");
  if (value == nullptr || *value == '\0') return std::nullopt;
  const std::string_view text = value;
  std::int64_t seconds = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), seconds);
  if (error != std::errc() || end != text.data() + text.size() || seconds < 0) {
    throw UsageError("SOURCE_DATE_EPOCH is '" + std::string(text) +
                     "', which is no number of seconds since 1970. Correct it or unset it.");
  }
  return seconds;
}

}  // namespace puzzlefs::build
