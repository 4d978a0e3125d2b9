// How many requests to have under way at once.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>

namespace puzzlefs::fetch {

/// Climbs towards the number of requests that brings the most bytes per second, and no further:
/// what is begun cannot be overtaken by what is more urgent. Now and then one step more or less is
/// tried, and kept if more brings more, or less brings as much. A server that says "later" has the
/// number halved, once for all that was under way then, and it grows again by a step for some
/// requests that are served: additive increase, multiplicative decrease, as in TCP (RFC 5681) and
/// for requests in Netflix's concurrency-limits (https://github.com/Netflix/concurrency-limits,
/// AIMDLimit; its other limits follow latencies, which say little where requests are of any size).
/// Rates count only while requests wait for one another, as else it is not the number that bounds
/// them; and less is tried only while as many as may be are under way, since of those who have a
/// share of it nothing can be told about the rest. A value; not thread-safe.
class Concurrency {
 public:
  using Time = std::chrono::steady_clock::time_point;

  static constexpr std::size_t kLeast = 2;  // after setbacks
  static constexpr std::size_t kLeastTried =
      4;  // without: small requests need more than large ones
  static constexpr std::size_t kFirst = 8;
  static constexpr std::size_t kMost = 16;
  /// A rate is measured over no less than this, and no fewer requests than may be under way.
  static constexpr std::chrono::milliseconds kShortest{250};
  /// What a step up must bring, and a step down may cost at most, in percent.
  static constexpr std::uint64_t kLeastGain = 10;
  /// So many rates are measured before another step is tried; so many times the limit are served
  /// before it grows after a setback.
  static constexpr unsigned kPatience = 8;

  /// How many may be under way for somebody who waits.
  std::size_t limit() const { return limit_; }

  /// One of so many requests has ended. `received` counts the bytes of all so far, those under way
  /// included; `others_wait` says whether another one waits for its place.
  void ended(Time now, std::uint64_t received, std::size_t under_way, bool others_wait);
  /// A server did not serve, and may later; so many requests were under way.
  void set_back(std::size_t under_way);
  /// The rate of just now says nothing: requests are held back, or let go on.
  void disturbed();

 private:
  enum class Trial { kNone, kMore, kLess };

  void measure(Time now, std::uint64_t received);
  void recover();
  void judge(double rate);
  void step(Trial trial);
  void end_trial();
  void settle(std::size_t limit);

  std::size_t limit_ = kFirst;
  // The stretch that is being measured:
  bool is_measuring_ = false;
  bool is_settled_ = false;  // what was begun under another limit has ended
  bool is_full_ = false;     // as many as may be were under way all the time
  Time begun_{};
  std::uint64_t received_before_ = 0;
  std::size_t ended_ = 0;

  Trial trial_ = Trial::kNone;  // that is going on
  std::size_t limit_before_ = kFirst;
  double rate_before_ = 0;  // of that limit, in bytes per second
  Trial next_trial_ = Trial::kMore;
  unsigned patience_ = 0;  // rates to be measured before it

  std::size_t excused_ = 0;  // requests that were under way at the last setback
  bool is_recovering_ = false;
  std::size_t served_ = 0;  // since the limit last changed, while it is
};

}  // namespace puzzlefs::fetch
