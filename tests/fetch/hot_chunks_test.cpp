#include "fetch/hot_chunks.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "packed_image.h"

namespace puzzlefs::fetch {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

/// Two packs of three chunks of 1000 bytes each, which do not compress.
class HotChunksTest : public ::testing::Test {
 protected:
  HotChunksTest() {
    for (std::uint32_t i = 0; i < 6; ++i) {
      if (i % 3 == 0) image_.start_pack();
      image_.add(noise(1000, i));
    }
  }

  MemorySource source_;
  PackedImage image_;
};

TEST_F(HotChunksTest, AreTheBeginningsOfPacksInTheirOrder) {
  image_.mark_hot(0, 2000);
  image_.mark_hot(1, 1000);
  image_.finish(source_);
  EXPECT_THAT(hot_places(image_.metadata()), ElementsAre(0, 1, 3));
}

TEST_F(HotChunksTest, AreNoneWhereNoneAreMarked) {
  image_.finish(source_);
  EXPECT_THAT(hot_places(image_.metadata()), IsEmpty());
}

TEST(PlacesOf, KeepsTheOrderOfTheTraceAndNamesEachOnce) {
  std::vector<BackgroundPlan::Chunk> chunks;
  for (const auto* text : {"a", "b", "c"}) chunks.push_back({format::sha256(as_bytes(text)), 1, 1});
  const auto digest = [](std::string_view text) { return format::sha256(as_bytes(text)); };
  const format::Trace trace{{digest("c"), digest("strange"), digest("a"), digest("c")}};
  EXPECT_THAT(places_of(trace, chunks), ElementsAre(2, 0));
}

}  // namespace
}  // namespace puzzlefs::fetch
