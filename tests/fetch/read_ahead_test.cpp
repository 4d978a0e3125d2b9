#include "fetch/read_ahead.h"

#include <gtest/gtest.h>

#include "packed_image.h"

namespace puzzlefs::fetch {
namespace {

using format::ChunkIndex;

constexpr std::size_t kChunkSize = 16 << 10;
constexpr std::uint32_t kFirstCount = ReadAhead::kFirstWindow / kChunkSize;
constexpr std::uint32_t kBehindCount = ReadAhead::kBehind / kChunkSize;

class ReadAheadTest : public ::testing::Test {
 protected:
  /// Two packs of that many chunks of 16 KiB each.
  void make(std::uint32_t count) {
    for (std::uint32_t pack = 0; pack < 2; ++pack) {
      image_.start_pack();
      for (std::uint32_t i = 0; i < count; ++i) image_.add(noise(kChunkSize, pack * count + i));
    }
    image_.finish(source_);
    ahead_.emplace(image_.metadata());
  }

  /// Up to where is fetched.
  ChunkIndex end_of_reading_the_first_pack() {
    auto end = ahead_->on_miss(ChunkIndex{0}).end;
    for (std::uint32_t i = 1; i < 100; ++i) {
      if (const auto next = ahead_->on_hit(ChunkIndex{i})) end = next->end;
    }
    return end;
  }

  MemorySource source_;
  PackedImage image_;
  std::optional<ReadAhead> ahead_;
};

TEST_F(ReadAheadTest, TakesSomeAroundAChunkOutOfTheBlue) {
  make(100);
  EXPECT_EQ(ahead_->on_miss(ChunkIndex{50}),
            (ChunkWindow{ChunkIndex{50 - kBehindCount}, ChunkIndex{50 + kFirstCount}}));
}

TEST_F(ReadAheadTest, TakesMoreEachTimeInTheSameRegion) {
  make(1500);
  ASSERT_LT(1000 * kChunkSize, 2 * ReadAhead::kRegion);
  constexpr std::uint32_t far = ReadAhead::kRegion / kChunkSize;
  ahead_->on_miss(ChunkIndex{50});
  EXPECT_EQ(ahead_->on_miss(ChunkIndex{100}),
            (ChunkWindow{ChunkIndex{100 - 2 * kBehindCount}, ChunkIndex{100 + 2 * kFirstCount}}));
  EXPECT_EQ(ahead_->on_miss(ChunkIndex{far + 50}).end, ChunkIndex{far + 50 + kFirstCount});
  EXPECT_EQ(ahead_->on_miss(ChunkIndex{1500 + 50}).end, ChunkIndex{1500 + 50 + kFirstCount});
  ahead_->on_miss(ChunkIndex{200});
  ahead_->on_miss(ChunkIndex{300});
  EXPECT_EQ(ahead_->on_miss(ChunkIndex{400}).end,
            ChunkIndex{400 + ReadAhead::kWidestWindow / kChunkSize});
}

TEST_F(ReadAheadTest, StaysInsideThePack) {
  make(20);
  EXPECT_EQ(ahead_->on_miss(ChunkIndex{18}).end, ChunkIndex{20});
  EXPECT_EQ(ahead_->on_miss(ChunkIndex{21}).first, ChunkIndex{20});
  EXPECT_EQ(ahead_->on_miss(ChunkIndex{39}).end, ChunkIndex{40});
}

TEST_F(ReadAheadTest, TakesAChunkThatIsLargerThanTheWindow) {
  image_.add(noise(ReadAhead::kFirstWindow + 1, 1));
  image_.add(noise(kChunkSize, 2));
  image_.finish(source_);
  EXPECT_EQ(ReadAhead(image_.metadata()).on_miss(ChunkIndex{0}),
            (ChunkWindow{ChunkIndex{0}, ChunkIndex{1}}));
}

TEST_F(ReadAheadTest, GoesOnBeforeAWindowIsReadAndGrows) {
  make(400);
  auto window = ahead_->on_miss(ChunkIndex{0});
  std::uint32_t last_count = 0;
  std::uint32_t longest = 0;
  for (std::uint32_t i = 1; i < 300; ++i) {
    const auto next = ahead_->on_hit(ChunkIndex{i});
    if (!next) continue;
    EXPECT_EQ(next->first, window.end) << "nothing is left out or asked for twice";
    EXPECT_GT(to_integer(window.end), i) << "before the reader gets there";
    const auto count = to_integer(next->end) - to_integer(next->first);
    EXPECT_TRUE(count >= 2 * last_count || next->end == ChunkIndex{400}) << "at chunk " << i;
    last_count = count;
    longest = std::max(longest, count);
    window = *next;
  }
  EXPECT_GT(longest, 100U);
}

TEST_F(ReadAheadTest, GoesOnIntoTheNextPack) {
  make(100);
  EXPECT_GT(end_of_reading_the_first_pack(), ChunkIndex{100});
}

TEST_F(ReadAheadTest, EndsWithAHotPack) {
  image_.mark_hot(0, 1);
  make(100);
  EXPECT_EQ(end_of_reading_the_first_pack(), ChunkIndex{100});
}

TEST_F(ReadAheadTest, HasALongestWindow) {
  make(2000);
  ahead_->on_miss(ChunkIndex{0});
  std::uint32_t longest = 0;
  for (std::uint32_t i = 1; i < 1900; ++i) {
    if (const auto next = ahead_->on_hit(ChunkIndex{i})) {
      longest = std::max(longest, to_integer(next->end) - to_integer(next->first));
    }
  }
  EXPECT_EQ(longest, ReadAhead::kLongestWindow / kChunkSize);
}

TEST_F(ReadAheadTest, AsksForNothingWhenChunksAreReadAtRandom) {
  make(100);
  ahead_->on_miss(ChunkIndex{10});
  EXPECT_FALSE(ahead_->on_hit(ChunkIndex{9}));
  EXPECT_FALSE(ahead_->on_hit(ChunkIndex{11}));
}

TEST_F(ReadAheadTest, FollowsSeveralReaders) {
  make(200);
  const auto one = ahead_->on_miss(ChunkIndex{0});
  const auto other = ahead_->on_miss(ChunkIndex{100});
  EXPECT_EQ(ahead_->on_miss(one.end).first, one.end);
  EXPECT_EQ(ahead_->on_miss(other.end).first, other.end);
}

TEST_F(ReadAheadTest, TakesAChunkAloneThatWasFetchedForAReaderBefore) {
  make(100);
  ahead_->on_miss(ChunkIndex{50});
  for (const auto chunk : {ChunkIndex{50 - kBehindCount}, ChunkIndex{50}, ChunkIndex{55}}) {
    EXPECT_EQ(ahead_->on_miss(chunk), (ChunkWindow{chunk, ChunkIndex{to_integer(chunk) + 1}}));
  }
}

TEST_F(ReadAheadTest, KnowsTheWholePack) {
  make(20);
  EXPECT_EQ(ahead_->whole_pack(ChunkIndex{25}), (ChunkWindow{ChunkIndex{20}, ChunkIndex{40}}));
}

}  // namespace
}  // namespace puzzlefs::fetch
