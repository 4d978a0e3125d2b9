// How long to wait before a request is tried anew.
#pragma once

#include <chrono>
#include <ctime>
#include <optional>
#include <random>
#include <string>

namespace puzzlefs::fetch {

/// Exponential backoff with full jitter: each wait is drawn evenly from nothing up to a bound that
/// doubles from 200 ms to 10 s, so that clients of a server that comes back do not march in step.
class Backoff {
 public:
  std::chrono::milliseconds next();
  /// The upper bound of the next wait.
  std::chrono::milliseconds bound() const { return bound_; }

 private:
  std::chrono::milliseconds bound_{200};
  std::minstd_rand random_{std::random_device{}()};
};

/// The wait that a Retry-After header asks for, seconds or an HTTP date; nothing for what is
/// neither. A date that has passed is no wait.
std::optional<std::chrono::seconds> parse_retry_after(const std::string& value, std::time_t now);

}  // namespace puzzlefs::fetch
