// Parts of a content stream as pieces of its chunks.
#include "build/stream_chunks.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <string>
#include <vector>

namespace puzzlefs::build {
namespace {

using testing::ElementsAre;

// Chunks of 10, 5 and 20 bytes, told apart by their indices.
class ThreeChunks : public testing::Test {
 protected:
  // "chunk:offset+size …"
  std::vector<std::string> pieces(std::uint64_t offset, std::uint64_t size) const {
    std::vector<std::string> found;
    for (const auto& piece : chunks_.pieces(offset, size)) {
      found.push_back(std::to_string(format::to_integer(piece.index)) + ":" +
                      std::to_string(piece.offset) + "+" + std::to_string(piece.size));
    }
    return found;
  }

 private:
  static format::ChunkRef chunk(std::uint32_t index, std::uint64_t size) {
    return {.size = size, .index = format::ChunkIndex{index}};
  }

  const StreamChunks chunks_{{chunk(0, 10), chunk(1, 5), chunk(2, 20)}};
};

TEST_F(ThreeChunks, GiveThePiecesOfAnyPart) {
  EXPECT_THAT(pieces(0, 10), ElementsAre("0:0+10"));
  EXPECT_THAT(pieces(3, 4), ElementsAre("0:3+4"));
  EXPECT_THAT(pieces(9, 1), ElementsAre("0:9+1"));
  EXPECT_THAT(pieces(10, 1), ElementsAre("1:0+1"));
  EXPECT_THAT(pieces(9, 7), ElementsAre("0:9+1", "1:0+5", "2:0+1"));
  EXPECT_THAT(pieces(15, 20), ElementsAre("2:0+20"));
  EXPECT_THAT(pieces(0, 35), ElementsAre("0:0+10", "1:0+5", "2:0+20"));
}

TEST_F(ThreeChunks, GiveNothingForNothing) {
  EXPECT_THAT(pieces(0, 0), ElementsAre());
  EXPECT_THAT(pieces(12, 0), ElementsAre());
  EXPECT_THAT(pieces(35, 0), ElementsAre());
}

}  // namespace
}  // namespace puzzlefs::build
