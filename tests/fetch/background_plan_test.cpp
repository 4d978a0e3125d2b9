#include "fetch/background_plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>
#include <string>

namespace puzzlefs::fetch {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

constexpr std::uint64_t kMiB = 1 << 20;

class BackgroundPlanTest : public ::testing::Test {
 protected:
  void add(std::uint64_t stored_size) {
    const auto digest = format::sha256(as_bytes(std::to_string(chunks_.size())));
    chunks_.push_back({digest, stored_size, stored_size});
  }
  BackgroundPlan::IsHere is_here() {
    return [this](const format::Digest& digest) { return here_.contains(digest); };
  }
  void arrives(const BackgroundPlan::Portion& portion) {
    for (const auto place : portion.chunks) here_.insert(chunks_[place].digest);
  }

  std::vector<BackgroundPlan::Chunk> chunks_;
  std::set<format::Digest> here_;
};

TEST_F(BackgroundPlanTest, GivesPortionsInOrderUntilAllIsThere) {
  for (int i = 0; i < 5; ++i) add(3 * kMiB);
  BackgroundPlan plan(chunks_, std::nullopt);
  std::vector<std::vector<std::size_t>> portions;
  for (;;) {
    const auto portion = plan.next(is_here());
    if (portion.chunks.empty()) break;
    EXPECT_EQ(portion.stored_size, portion.chunks.size() * 3 * kMiB);
    portions.push_back(portion.chunks);
    arrives(portion);
    EXPECT_EQ(plan.finished(0, seconds(0)), milliseconds(0));
  }
  EXPECT_THAT(portions, ElementsAre(ElementsAre(0, 1), ElementsAre(2, 3), ElementsAre(4)));
  EXPECT_EQ(plan.missing(), 0U);
}

TEST_F(BackgroundPlanTest, LeavesOutWhatIsHere) {
  for (int i = 0; i < 4; ++i) add(100);
  here_ = {chunks_[0].digest, chunks_[2].digest};
  BackgroundPlan plan(chunks_, std::nullopt);
  EXPECT_THAT(plan.next(is_here()).chunks, ElementsAre(1, 3));
}

TEST_F(BackgroundPlanTest, CountsWhatTheCacheWillHold) {
  add(100);
  chunks_[0].size = 5000;
  BackgroundPlan plan(chunks_, std::nullopt);
  EXPECT_EQ(plan.next(is_here()).disk_size, 8192U);
}

TEST_F(BackgroundPlanTest, AChunkThatIsLargerThanAPortionComesAlone) {
  add(100);
  add(9 * kMiB);
  add(100);
  BackgroundPlan plan(chunks_, std::nullopt);
  EXPECT_THAT(plan.next(is_here()).chunks, ElementsAre(0));
  EXPECT_THAT(plan.next(is_here()).chunks, ElementsAre(1));
  EXPECT_THAT(plan.next(is_here()).chunks, ElementsAre(2));
}

TEST_F(BackgroundPlanTest, WaitsForAsLongAsTheRateWants) {
  for (int i = 0; i < 100; ++i) add(kMiB / 4);
  BackgroundPlan plan(chunks_, kMiB);
  EXPECT_EQ(plan.next(is_here()).stored_size, 4 * kMiB) << "of four seconds";
  EXPECT_EQ(plan.finished(0, milliseconds(500)), milliseconds(3500));
  plan.next(is_here());
  EXPECT_EQ(plan.finished(0, seconds(5)), milliseconds(0));
}

TEST_F(BackgroundPlanTest, ThePausesAfterFailuresGrowAndThePortionIsTriedAgain) {
  for (int i = 0; i < 3; ++i) add(100);
  BackgroundPlan plan(chunks_, std::nullopt);
  auto before = milliseconds(0);
  for (int i = 0; i < 5; ++i) {
    EXPECT_THAT(plan.next(is_here()).chunks, ElementsAre(0, 1, 2));
    const auto pause = plan.finished(2, seconds(0));
    EXPECT_GT(pause, before);
    before = pause;
  }
  for (int i = 0; i < 20; ++i) {
    plan.next(is_here());
    EXPECT_LE(plan.finished(3, seconds(0)), BackgroundPlan::kLongestPause);
  }
  arrives(plan.next(is_here()));
  EXPECT_EQ(plan.finished(0, seconds(0)), milliseconds(0));
  EXPECT_THAT(plan.next(is_here()).chunks, IsEmpty());
  EXPECT_EQ(plan.missing(), 0U);
}

TEST_F(BackgroundPlanTest, WhatDoesNotComeIsAskedForInFewPasses) {
  for (int i = 0; i < 3; ++i) add(100);
  BackgroundPlan plan(chunks_, std::nullopt);
  int portions = 0;
  for (;; ++portions) {
    const auto portion = plan.next(is_here());
    if (portion.chunks.empty()) break;
    ASSERT_LT(portions, 10);
    here_ = {chunks_[0].digest, chunks_[1].digest};
    EXPECT_EQ(plan.finished(1, seconds(0)), milliseconds(0));
  }
  EXPECT_EQ(portions, BackgroundPlan::kPasses);
  EXPECT_EQ(plan.missing(), 1U);
}

TEST_F(BackgroundPlanTest, WhatComesInTheLastPassIsNotMissing) {
  add(100);
  BackgroundPlan plan(chunks_, std::nullopt);
  for (int pass = 1; pass < BackgroundPlan::kPasses; ++pass) {
    EXPECT_THAT(plan.next(is_here()).chunks, ElementsAre(0));
    plan.finished(0, seconds(0));  // it came, but was not kept
  }
  arrives(plan.next(is_here()));
  plan.finished(0, seconds(0));
  EXPECT_THAT(plan.next(is_here()).chunks, IsEmpty());
  EXPECT_EQ(plan.missing(), 0U);
}

}  // namespace
}  // namespace puzzlefs::fetch
