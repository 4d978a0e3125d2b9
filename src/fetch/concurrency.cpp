// Each limit is given the time to settle before its rate is measured: at first there are requests
// under way that were begun under another one.
#include "fetch/concurrency.h"

#include <algorithm>
#include <utility>

namespace puzzlefs::fetch {
namespace {

/// The shares of less urgent requests, a half and a quarter, change with it too.
constexpr std::size_t kStep = 4;

std::size_t more_than(std::size_t limit) {
  return std::min(limit < kStep ? kStep : limit + kStep, Concurrency::kMost);
}

std::size_t less_than(std::size_t limit) {
  return std::max(limit - std::min(limit, kStep), Concurrency::kLeastTried);
}

bool is_more(double rate, double than) {
  return rate * 100 >= than * (100 + static_cast<double>(Concurrency::kLeastGain));
}

}  // namespace

void Concurrency::ended(Time now, std::uint64_t received, std::size_t under_way, bool others_wait) {
  if (excused_ > 0) {
    --excused_;
  } else if (is_recovering_) {
    recover();
  }
  if (!others_wait || is_recovering_) return disturbed();
  is_full_ = is_full_ && under_way >= limit_;
  measure(now, received);
}

void Concurrency::measure(Time now, std::uint64_t received) {
  const bool begins = !std::exchange(is_measuring_, true);
  if (!begins) {
    ++ended_;
    if (ended_ < limit_ || now - begun_ < kShortest) return;
  }
  const auto elapsed = std::chrono::duration<double>(now - std::exchange(begun_, now));
  const auto bytes = received - std::exchange(received_before_, received);
  ended_ = 0;
  if (!begins && std::exchange(is_settled_, true)) {
    judge(static_cast<double>(bytes) / elapsed.count());
  }
  is_full_ = true;
}

void Concurrency::disturbed() {
  is_measuring_ = false;
  // Less is not kept for longer than it takes to see what it is good for.
  if (trial_ == Trial::kLess) end_trial();
}

void Concurrency::recover() {
  if (++served_ < kPatience * limit_) return;
  served_ = 0;
  settle(more_than(limit_));
  is_recovering_ = limit_ < kFirst;
}

void Concurrency::judge(double rate) {
  if (trial_ != Trial::kNone) {
    const bool is_good = trial_ == Trial::kMore ? is_more(rate, rate_before_)
                                                : is_full_ && !is_more(rate_before_, rate);
    if (!is_good) return end_trial();
    rate_before_ = rate;
    return step(trial_);  // and further that way
  }
  rate_before_ = rate;
  if (patience_ > 0) {
    --patience_;
  } else {
    step(is_full_ ? next_trial_ : Trial::kMore);
  }
}

void Concurrency::step(Trial trial) {
  const auto limit = trial == Trial::kMore ? more_than(limit_) : less_than(limit_);
  trial_ = trial;
  limit_before_ = limit_;
  if (limit == limit_) return end_trial();
  settle(limit);
}

/// Goes back to where it began; the next one goes the other way.
void Concurrency::end_trial() {
  next_trial_ = trial_ == Trial::kMore ? Trial::kLess : Trial::kMore;
  trial_ = Trial::kNone;
  patience_ = kPatience;
  settle(limit_before_);
}

void Concurrency::settle(std::size_t limit) {
  limit_ = limit;
  is_settled_ = false;
}

void Concurrency::set_back(std::size_t under_way) {
  if (excused_ > 0) return;
  excused_ = std::max<std::size_t>(under_way, 1);
  if (trial_ != Trial::kNone) end_trial();
  settle(std::max(limit_ / 2, kLeast));
  is_recovering_ = limit_ < kFirst;
  served_ = 0;
  next_trial_ = Trial::kMore;
  patience_ = kPatience;
}

}  // namespace puzzlefs::fetch
