// Which pieces of which chunks a read covers.
#include "fs/open_file.h"

#include <gtest/gtest.h>

#include "records.h"

namespace puzzlefs::fs {
namespace {

const format::Digest kA = format::sha256(as_bytes("a"));
const format::Digest kB = format::sha256(as_bytes("b"));
using Pieces = std::vector<format::ChunkRef>;

/// A file of 10 bytes from the middle of one chunk, nothing from another, and 5 bytes of it.
class OpenFileTest : public testing::Test {
 protected:
  const Bytes blob_ =
      test::one_layer({test::file(1, {{kA, 100, 10, false}, {kB, 7, 0, false}, {kB, 0, 5, true}})});
  const format::Metadata metadata_{blob_};
  const OpenFile file_{metadata_.get(format::kRootInode)};
};

TEST_F(OpenFileTest, CoversTheWholeFile) {
  EXPECT_EQ(file_.pieces(0, 15), (Pieces{{kA, 100, 10, false}, {kB, 0, 5, true}}));
}

TEST_F(OpenFileTest, CutsThePiecesAtBothEnds) {
  EXPECT_EQ(file_.pieces(3, 9), (Pieces{{kA, 103, 7, false}, {kB, 0, 2, true}}));
  EXPECT_EQ(file_.pieces(4, 1), (Pieces{{kA, 104, 1, false}}));
  EXPECT_EQ(file_.pieces(10, 1), (Pieces{{kB, 0, 1, true}}));
}

TEST_F(OpenFileTest, EndsWhereTheFileEnds) {
  EXPECT_EQ(file_.pieces(14, 100), (Pieces{{kB, 4, 1, true}}));
  EXPECT_EQ(file_.pieces(15, 100), Pieces{});
  EXPECT_EQ(file_.pieces(~std::uint64_t{0}, 100), Pieces{});
}

TEST_F(OpenFileTest, IsNothingForNoBytes) {
  EXPECT_EQ(file_.pieces(3, 0), Pieces{});
}

}  // namespace
}  // namespace puzzlefs::fs
