#include "fetch/cached_recipes.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <limits>

#include "../support/temp_dir.h"

namespace puzzlefs::fetch {
namespace {

namespace fs = std::filesystem;

constexpr auto kMax = std::numeric_limits<std::uint64_t>::max();

const format::Digest kChunk = format::sha256(as_bytes("chunk"));
const format::Digest kFile = format::sha256(as_bytes("file"));

// The form is part of what processes of different versions share.
TEST(RecipeTest, ItsKeyIsTheDigestOfAllPiecesInFixedWidth) {
  Bytes text;
  FilePieces pieces;
  for (int i = 0; i < 1000; ++i) {
    pieces.push_back({kChunk, 0x0102030405060708, 0x1112, true});
    text.insert(text.end(), kChunk.bytes().begin(), kChunk.bytes().end());
    for (const int byte : {8, 7, 6, 5, 4, 3, 2, 1, 0x12, 0x11, 0, 0, 0, 0, 0, 0, 1}) {
      text.push_back(static_cast<std::byte>(byte));
    }
  }
  EXPECT_EQ(recipe_of(pieces).key, format::sha256(text));
  EXPECT_EQ(recipe_of(pieces).size, 1000U * 0x1112);
}

TEST(RecipeTest, ASizeThatIsNoNumberIsTheLargest) {
  EXPECT_EQ(recipe_of({{kChunk, 0, kMax - 1, false}, {kChunk, 0, 3, false}}).size, kMax);
  EXPECT_EQ(recipe_of({}).size, 0U);
}

class CachedRecipesTest : public ::testing::Test {
 protected:
  CachedRecipesTest() { fs::create_directory(temp_ / "tmp"); }

  test::TempDir temp_;
  const CachedRecipes recipes_{temp_.path()};
};

TEST_F(CachedRecipesTest, RecallsTheLastFile) {
  EXPECT_EQ(recipes_.recall(kChunk), std::nullopt);
  recipes_.remember(kChunk, kChunk);
  recipes_.remember(kChunk, kFile);
  EXPECT_EQ(recipes_.recall(kChunk), kFile);
  EXPECT_TRUE(fs::is_empty(temp_ / "tmp"));
}

TEST_F(CachedRecipesTest, ARecipeWhoseFileIsGoneCanBeRemoved) {
  const auto hex = kFile.hex();
  fs::create_directories(temp_ / "files" / hex.substr(0, 2) / hex);
  recipes_.remember(kChunk, kFile);
  recipes_.remember(kFile, kChunk);
  recipes_.remove_dangling(false);
  EXPECT_EQ(recipes_.recall(kChunk), kFile);
  EXPECT_EQ(recipes_.recall(kFile), std::nullopt);
}

}  // namespace
}  // namespace puzzlefs::fetch
