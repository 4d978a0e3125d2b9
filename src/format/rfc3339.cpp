#include "format/rfc3339.h"

#include <algorithm>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <utility>

namespace puzzlefs::format {
namespace {

using std::chrono::days;
using std::chrono::hours;
using std::chrono::minutes;
using std::chrono::nanoseconds;
using std::chrono::seconds;
using std::chrono::year_month_day;

constexpr int kFirstYear = 1970;
constexpr int kLastYear = 2200;
constexpr std::size_t kFractionDigits = 9;

// Takes the parts of a text from its front, and remembers whether all were there.
class Parts {
 public:
  explicit Parts(std::string_view text) : rest_(text) {}

  bool ok() const { return ok_; }
  bool at_end() const { return rest_.empty(); }

  unsigned number(std::size_t digits, unsigned most) {
    unsigned value = 0;
    const auto text = rest_.substr(0, digits);
    const auto* end = text.data() + text.size();
    const auto parsed = std::from_chars(text.data(), end, value);
    ok_ = ok_ && text.size() == digits && parsed.ec == std::errc() && parsed.ptr == end &&
          value <= most;
    rest_.remove_prefix(text.size());
    return value;
  }
  // One of these characters, which is removed, or none of them.
  char one_of(std::string_view characters) {
    if (rest_.empty() || characters.find(rest_.front()) == std::string_view::npos) return '\0';
    const char found = rest_.front();
    rest_.remove_prefix(1);
    return found;
  }
  void require(char character) { ok_ = one_of({&character, 1}) != '\0' && ok_; }
  std::string_view digits() {
    const auto size = std::min(rest_.find_first_not_of("0123456789"), rest_.size());
    const auto found = rest_.substr(0, size);
    rest_.remove_prefix(size);
    return found;
  }
  void fail() { ok_ = false; }

 private:
  std::string_view rest_;
  bool ok_ = true;
};

std::chrono::sys_days take_date(Parts& parts) {
  const auto year = parts.number(4, kLastYear);
  parts.require('-');
  const auto month = parts.number(2, 12);
  parts.require('-');
  const year_month_day date(std::chrono::year(static_cast<int>(year)), std::chrono::month(month),
                            std::chrono::day(parts.number(2, 31)));
  if (!date.ok() || static_cast<int>(date.year()) < kFirstYear) parts.fail();
  return parts.ok() ? std::chrono::sys_days(date) : std::chrono::sys_days();
}

nanoseconds take_fraction(Parts& parts) {
  if (parts.one_of(".") == '\0') return nanoseconds(0);
  std::string digits(parts.digits());
  if (digits.empty()) parts.fail();
  digits.resize(kFractionDigits, '0');
  nanoseconds::rep value = 0;
  std::from_chars(digits.data(), digits.data() + digits.size(), value);
  return nanoseconds(value);
}

minutes take_zone(Parts& parts) {
  const char sign = parts.one_of("Zz+-");
  if (sign == 'Z' || sign == 'z') return minutes(0);
  if (sign == '\0') parts.fail();
  const hours ahead(parts.number(2, 23));
  parts.require(':');
  const auto offset = ahead + minutes(parts.number(2, 59));
  return sign == '-' ? -offset : offset;
}

std::string padded(std::uint64_t value, std::size_t width) {
  const auto digits = std::to_string(value);
  return std::string(width - std::min(width, digits.size()), '0') + digits;
}

template <class Rep, class Period>
std::string padded(std::chrono::duration<Rep, Period> duration, std::size_t width) {
  return padded(static_cast<std::uint64_t>(duration.count()), width);
}

}  // namespace

std::optional<Time> parse_time(std::string_view text) {
  Parts parts(text);
  Time time = take_date(parts);
  if (parts.one_of("Tt ") == '\0') parts.fail();
  time += hours(parts.number(2, 23));
  parts.require(':');
  time += minutes(parts.number(2, 59));
  parts.require(':');
  time += seconds(parts.number(2, 60));  // a leap second
  time += take_fraction(parts);
  time -= take_zone(parts);
  if (!parts.ok() || !parts.at_end()) return std::nullopt;
  return time;
}

std::string to_text(Time time) {
  const auto day = std::chrono::floor<days>(time);
  const year_month_day date(day);
  const std::chrono::hh_mm_ss<nanoseconds> clock(time - day);
  return padded(static_cast<std::uint64_t>(static_cast<int>(date.year())), 4) + "-" +
         padded(static_cast<unsigned>(date.month()), 2) + "-" +
         padded(static_cast<unsigned>(date.day()), 2) + "T" + padded(clock.hours(), 2) + ":" +
         padded(clock.minutes(), 2) + ":" + padded(clock.seconds(), 2) + "." +
         padded(clock.subseconds(), kFractionDigits) + "Z";
}

}  // namespace puzzlefs::format
