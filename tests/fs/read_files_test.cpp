// The files that are read without having been opened.
#include "fs/read_files.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "records.h"

namespace puzzlefs::fs {
namespace {

constexpr std::uint64_t kFew = 3;
constexpr std::uint64_t kMany = 1000;

/// A file of so many bytes, each in a chunk of its own.
format::InodeRecord file_of(std::uint64_t number, std::uint64_t pieces) {
  std::vector<format::ChunkRef> chunks;
  for (std::uint64_t i = 0; i < pieces; ++i) {
    chunks.push_back({format::sha256(as_bytes(std::to_string(i))), i, 1, false});
  }
  return test::file(number, chunks);
}

class ReadFilesTest : public testing::Test {
 protected:
  ReadFilesTest() {
    std::vector<format::InodeRecord> inodes{test::directory(1, {}), file_of(2, kFew)};
    for (std::uint64_t number = 3; number < 7; ++number) {
      inodes.push_back(file_of(number, kMany));
    }
    blob_ = test::one_layer(std::move(inodes));
    metadata_.emplace(blob_);
    files_.emplace(*metadata_);
  }

  Bytes blob_;
  std::optional<format::Metadata> metadata_;
  std::optional<ReadFiles> files_;
};

TEST_F(ReadFilesTest, KnowsThePiecesOfFewAndOfMany) {
  EXPECT_EQ(files_->get(2)->size(), kFew);
  EXPECT_EQ(files_->get(3)->size(), kMany);
  EXPECT_EQ(files_->get(3)->pieces(500, 1).front().offset, 500U);
  EXPECT_EQ(files_->get(2)->number(), format::InodeNumber{2});
}

TEST_F(ReadFilesTest, KeepsTheTableOfALargeFile) {
  EXPECT_EQ(files_->get(3), files_->get(3));
}

TEST_F(ReadFilesTest, LetsGoOfWhatWasNotReadForLongest) {
  ReadFiles files(*metadata_, 3 * kMany);
  const std::weak_ptr<const OpenFile> third = files.get(3);
  const std::weak_ptr<const OpenFile> fourth = files.get(4);
  files.get(5);
  files.get(3);
  files.get(6);
  EXPECT_FALSE(third.expired());
  EXPECT_TRUE(fourth.expired());
  EXPECT_EQ(files.get(4)->size(), kMany);
}

TEST_F(ReadFilesTest, KeepsTheLastOneHoweverLarge) {
  ReadFiles files(*metadata_, 1);
  EXPECT_EQ(files.get(3), files.get(3));
  const std::weak_ptr<const OpenFile> third = files.get(3);
  files.get(4);
  EXPECT_TRUE(third.expired());
}

}  // namespace
}  // namespace puzzlefs::fs
