#include "fetch/concurrency.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <set>

namespace puzzlefs::fetch {
namespace {

using std::chrono::duration;

constexpr std::uint64_t kSize = 1 << 20;

/// Requests of one size on a link whose rate, in requests per second, depends on how many are
/// under way.
class ConcurrencyTest : public ::testing::Test {
 protected:
  using Rate = std::function<double(std::size_t limit)>;

  /// Each server takes a second for a request, however many others there are.
  static double latency_bound(std::size_t limit) { return static_cast<double>(limit); }
  /// The link is full with so many.
  static Rate full_with(std::size_t requests) {
    return [requests](std::size_t limit) { return static_cast<double>(std::min(limit, requests)); };
  }
  void end_requests(std::size_t count, const Rate& rate, bool others_wait = true,
                    std::size_t share = 1) {
    for (std::size_t i = 0; i < count; ++i) {
      now_ += std::chrono::duration_cast<std::chrono::steady_clock::duration>(
          duration<double>(1 / rate(concurrency_.limit())));
      received_ += kSize;
      concurrency_.ended(now_, received_, concurrency_.limit() / share, others_wait);
      seen_.insert(concurrency_.limit());
    }
  }

  Concurrency concurrency_;
  Concurrency::Time now_{};
  std::uint64_t received_ = 0;
  std::set<std::size_t> seen_;
};

TEST_F(ConcurrencyTest, BeginsInTheMiddle) {
  EXPECT_EQ(concurrency_.limit(), 8U);
}

TEST_F(ConcurrencyTest, GrowsWhileMoreBringsMore) {
  end_requests(200, latency_bound);
  EXPECT_EQ(concurrency_.limit(), Concurrency::kMost);
  end_requests(2000, latency_bound);
  EXPECT_EQ(*seen_.rbegin(), Concurrency::kMost);
  EXPECT_GE(*seen_.begin(), 8U) << "what costs much is not tried twice in a row";
}

TEST_F(ConcurrencyTest, GoesNoFurtherThanWhatFillsTheLink) {
  end_requests(100, full_with(8));
  EXPECT_EQ(concurrency_.limit(), 8U);
  EXPECT_EQ(*seen_.rbegin(), 12U) << "more has been tried";
}

TEST_F(ConcurrencyTest, ShrinksToWhatFillsTheLink) {
  end_requests(1000, full_with(2));
  EXPECT_EQ(*seen_.begin(), Concurrency::kLeastTried);
  seen_.clear();
  end_requests(1000, full_with(2));
  EXPECT_EQ(*seen_.rbegin(), 8U) << "more is tried again, in vain";
  seen_.clear();
  end_requests(1000, latency_bound);
  EXPECT_EQ(*seen_.rbegin(), Concurrency::kMost) << "it grows again";
}

TEST_F(ConcurrencyTest, ReturnsFromLessThatBringsLess) {
  while (concurrency_.limit() >= 8) end_requests(1, full_with(8));
  EXPECT_EQ(concurrency_.limit(), 4U);
  end_requests(10, full_with(8));
  EXPECT_EQ(concurrency_.limit(), 8U);
}

TEST_F(ConcurrencyTest, TriesNotLessForThoseWhoHaveAShare) {
  end_requests(1000, full_with(1), true, 4);
  EXPECT_EQ(*seen_.begin(), 8U);
  EXPECT_EQ(*seen_.rbegin(), 12U);
}

TEST_F(ConcurrencyTest, GrowsForThoseWhoHaveAShare) {
  end_requests(1000, latency_bound, true, 4);
  EXPECT_EQ(*seen_.rbegin(), Concurrency::kMost);
}

TEST_F(ConcurrencyTest, StaysWithinItsBounds) {
  for (int i = 0; i < 20; ++i) {
    end_requests(200, i % 2 == 0 ? Rate(latency_bound) : full_with(1));
    if (i % 3 == 0) concurrency_.set_back(8);
  }
  EXPECT_GE(*seen_.begin(), Concurrency::kLeast);
  EXPECT_LE(*seen_.rbegin(), Concurrency::kMost);
}

TEST_F(ConcurrencyTest, LearnsNothingWhileNobodyWaits) {
  end_requests(1000, latency_bound, false);
  EXPECT_EQ(seen_, std::set<std::size_t>{8});
}

TEST_F(ConcurrencyTest, LearnsNothingOfTimesInWhichRequestsAreHeldBack) {
  for (int i = 0; i < 200; ++i) {
    end_requests(7, latency_bound);
    concurrency_.disturbed();
  }
  EXPECT_EQ(seen_, std::set<std::size_t>{8});
}

TEST_F(ConcurrencyTest, MeasuresNothingInAMoment) {
  end_requests(200, [](std::size_t) { return 1000.0; });
  EXPECT_EQ(seen_, std::set<std::size_t>{8}) << "that was 200 ms";
}

TEST_F(ConcurrencyTest, GivesUpATrialOfLessOnceNobodyWaits) {
  while (concurrency_.limit() >= 8) end_requests(1, full_with(8));
  end_requests(1, full_with(8), false);
  EXPECT_EQ(concurrency_.limit(), 8U);
}

TEST_F(ConcurrencyTest, IsHalvedOnceForAllThatWasUnderWay) {
  concurrency_.set_back(8);
  EXPECT_EQ(concurrency_.limit(), 4U);
  for (int i = 0; i < 7; ++i) {
    end_requests(1, latency_bound);
    concurrency_.set_back(4);
  }
  EXPECT_EQ(concurrency_.limit(), 4U);
  end_requests(1, latency_bound);
  concurrency_.set_back(4);
  EXPECT_EQ(concurrency_.limit(), 2U);
  end_requests(4, latency_bound);
  concurrency_.set_back(2);
  EXPECT_EQ(concurrency_.limit(), Concurrency::kLeast);
}

TEST_F(ConcurrencyTest, RecoversByStepsFromWhatIsServed) {
  concurrency_.set_back(8);
  end_requests(8, latency_bound);
  concurrency_.set_back(4);
  ASSERT_EQ(concurrency_.limit(), 2U);
  end_requests(4 + 2 * Concurrency::kPatience, latency_bound, false);
  EXPECT_EQ(concurrency_.limit(), 4U);
  end_requests(4 * Concurrency::kPatience, latency_bound, false);
  EXPECT_EQ(concurrency_.limit(), 8U);
  end_requests(1000, latency_bound, false);
  EXPECT_EQ(concurrency_.limit(), 8U) << "more is to show first that it is worth it";
}

}  // namespace
}  // namespace puzzlefs::fetch
