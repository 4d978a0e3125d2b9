// How large packs grow, and which ones are kept.
#include "build/pack_plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>

namespace puzzlefs::build {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

TEST(FullPackSize, IsTwiceTheFirstForEightGigabytes) {
  EXPECT_EQ(full_pack_size(0, kPackSize), 32U << 20);
  EXPECT_EQ(full_pack_size(3, kPackSize), 32U << 20);
  EXPECT_EQ(full_pack_size(4, kPackSize), 64U << 20);
  EXPECT_EQ(full_pack_size(127, kPackSize), 64U << 20);
  EXPECT_EQ(full_pack_size(128, kPackSize), 128U << 20);
  EXPECT_EQ(full_pack_size(160, kPackSize), 256U << 20);
}

TEST(FullPackSize, GrowsSoThatAnyImageHasRoom) {
  std::uint64_t sum = 0;
  for (std::uint32_t index = 0; index < kMaxPacks; ++index) {
    if (index > 0) {
      EXPECT_GE(full_pack_size(index, kPackSize), full_pack_size(index - 1, kPackSize));
    }
    sum += full_pack_size(index, kPackSize) >> 20;  // in MiB
  }
  EXPECT_GT(sum, std::uint64_t{1} << 38) << "a quarter of an exbibyte";
  EXPECT_EQ(full_pack_size(kMaxPacks, kPackSize), full_pack_size(10'000, kPackSize));
}

TEST(ChoosePacks, KeepsThoseThatAreMostlyNeeded) {
  EXPECT_THAT(choose_packs({{100, 100}, {100, 60}}, {.full_size = 100}), ElementsAre(true, true));
  EXPECT_THAT(choose_packs({}, {.full_size = 100}), IsEmpty());
}

TEST(ChoosePacks, DropsThoseOfWhichNothingIsNeeded) {
  EXPECT_THAT(choose_packs({{100, 0}, {100, 100}, {900, 0}}, {.full_size = 100}),
              ElementsAre(false, true, false));
}

// Half of all, not of each.
TEST(ChoosePacks, KeepsAPoorOneThatRichOnesMakeUpFor) {
  EXPECT_THAT(choose_packs({{100, 1}, {100, 100}}, {.full_size = 100}), ElementsAre(true, true));
  EXPECT_THAT(choose_packs({{100, 50}}, {.full_size = 100}), ElementsAre(true));
}

TEST(ChoosePacks, DropsThePoorestUntilHalfIsNeeded) {
  EXPECT_THAT(choose_packs({{100, 49}}, {.full_size = 100}), ElementsAre(false));
  EXPECT_THAT(choose_packs({{100, 90}, {1000, 10}, {100, 20}, {100, 30}}, {.full_size = 100}),
              ElementsAre(true, false, false, true));
}

TEST(ChoosePacks, MakesRoomForNewOnes) {
  const std::vector<PackUse> four = {{100, 100}, {100, 90}, {100, 100}, {100, 95}};
  EXPECT_THAT(choose_packs(four, {.count = 1, .room = 100, .full_size = 100, .limit = 5}),
              ElementsAre(true, true, true, true));
  EXPECT_THAT(choose_packs(four, {.count = 1, .room = 100, .full_size = 100, .limit = 4}),
              ElementsAre(true, false, true, true));
  // What is moved needs a pack of its own.
  EXPECT_THAT(choose_packs(four, {.count = 1, .room = 50, .full_size = 400, .limit = 4}),
              ElementsAre(true, false, true, false));
}

TEST(ChoosePacks, TakesTheSmallestOfThoseThatAreEquallyNeeded) {
  EXPECT_THAT(choose_packs({{100, 100}, {10, 10}, {50, 50}},
                           {.count = 1, .room = 1000, .full_size = 1000, .limit = 3}),
              ElementsAre(true, false, true));
}

// As many new packs as there may be at all: nothing is kept.
TEST(ChoosePacks, EndsWhereThereIsNoRoom) {
  EXPECT_THAT(choose_packs({{100, 100}, {100, 100}}, {.count = 9, .full_size = 1, .limit = 2}),
              ElementsAre(false, false));
}

}  // namespace
}  // namespace puzzlefs::build
