#include "fetch/background_plan.h"

#include <algorithm>

#include "fetch/cache_eviction.h"

namespace puzzlefs::fetch {
namespace {

/// With a low rate a whole portion would fill the line for a while and leave it idle for longer.
constexpr std::uint64_t kSecondsPerPortion = 4;
constexpr std::uint64_t kLeastPortion = 128 << 10;
constexpr std::chrono::milliseconds kFirstPause{1000};

std::uint64_t portion_of(std::optional<std::uint64_t> rate) {
  if (!rate || *rate > BackgroundPlan::kPortionSize) return BackgroundPlan::kPortionSize;
  return std::clamp(*rate * kSecondsPerPortion, kLeastPortion, BackgroundPlan::kPortionSize);
}

}  // namespace

BackgroundPlan::BackgroundPlan(const std::vector<Chunk>& chunks, std::optional<std::uint64_t> rate)
    : chunks_(chunks), rate_(rate), portion_size_(portion_of(rate)) {}

BackgroundPlan::Portion BackgroundPlan::next(const IsHere& is_here) {
  for (;;) {
    last_ = {};
    last_begin_ = next_;
    for (; next_ < chunks_.size(); ++next_) {
      const auto& chunk = chunks_[next_];
      if (is_here(chunk.digest)) continue;
      if (!last_.chunks.empty() && last_.stored_size + chunk.stored_size > portion_size_) break;
      last_.chunks.push_back(next_);
      last_.stored_size += chunk.stored_size;
      last_.disk_size += fetch::disk_size(chunk.size);
    }
    missing_ += last_.chunks.size();
    if (!last_.chunks.empty() || missing_ == 0) return last_;
    if (pass_ == kPasses) {
      missing_ = count_missing(is_here);
      return last_;
    }
    ++pass_;
    next_ = 0;
    missing_ = 0;
  }
}

std::size_t BackgroundPlan::count_missing(const IsHere& is_here) const {
  const auto count = std::count_if(chunks_.begin(), chunks_.end(),
                                   [&](const Chunk& chunk) { return !is_here(chunk.digest); });
  return static_cast<std::size_t>(count);
}

std::chrono::milliseconds BackgroundPlan::finished(std::size_t failed,
                                                   std::chrono::nanoseconds took) {
  if (pass_ == 1 && failed > last_.chunks.size() / 2) {
    missing_ -= last_.chunks.size();
    next_ = last_begin_;
    return longer_pause();
  }
  pause_ = {};
  if (!rate_) return {};
  constexpr double kMilliseconds = 1000;
  const auto due = std::chrono::milliseconds(static_cast<std::int64_t>(
      static_cast<double>(last_.stored_size) * kMilliseconds / static_cast<double>(*rate_)));
  const auto spent = std::chrono::duration_cast<std::chrono::milliseconds>(took);
  return std::max(due - spent, std::chrono::milliseconds(0));
}

std::chrono::milliseconds BackgroundPlan::longer_pause() {
  pause_ = std::min<std::chrono::milliseconds>(std::max(pause_ * 2, kFirstPause), kLongestPause);
  return pause_;
}

}  // namespace puzzlefs::fetch
