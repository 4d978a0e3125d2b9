// How long to wait before a request is tried anew.
#include "fetch/backoff.h"

#include <algorithm>
#include <charconv>

#include "fetch/curl_library.h"

namespace puzzlefs::fetch {
namespace {

constexpr std::chrono::milliseconds kMaxBound{10'000};
// Longer waits are as good as "never" to every deadline, and sums of them cannot overflow.
constexpr long kMaxRetryAfter = 24L * 60 * 60;

}  // namespace

std::chrono::milliseconds Backoff::next() {
  std::uniform_int_distribution<long> wait(0, bound_.count());
  const std::chrono::milliseconds result(wait(random_));
  bound_ = std::min(2 * bound_, kMaxBound);
  return result;
}

std::optional<std::chrono::seconds> parse_retry_after(const std::string& value, std::time_t now) {
  if (value.empty()) return std::nullopt;
  const bool number = value.find_first_not_of("0123456789") == std::string::npos;
  long seconds = 0;
  if (number) {
    const auto [end, error] =
        std::from_chars(value.data(), value.data() + value.size(), seconds, 10);
    if (error != std::errc()) seconds = kMaxRetryAfter;
  } else {
    const std::time_t date = curl().getdate(value.c_str(), nullptr);
    if (date == -1) return std::nullopt;
    seconds = std::max(static_cast<long>(date - now), 0L);
  }
  return std::chrono::seconds(std::min(seconds, kMaxRetryAfter));
}

}  // namespace puzzlefs::fetch
