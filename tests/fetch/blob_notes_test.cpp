#include "fetch/blob_notes.h"

#include <gtest/gtest.h>

#include <cstddef>
#include <filesystem>
#include <fstream>
#include <string>

#include "../support/temp_dir.h"
#include "fetch/file_descriptor.h"
#include "format/error.h"

namespace puzzlefs::fetch {
namespace {

namespace fs = std::filesystem;

format::Descriptor describe(const std::string& text) {
  return {.digest = format::sha256(as_bytes(text)), .size = text.size()};
}

class BlobNotesTest : public ::testing::Test {
 protected:
  void remember(const std::string& note) const { notes_.remember(blob_, as_bytes(note)); }
  /// "nothing" if there is none.
  std::string recall(const format::Descriptor& blob) const {
    const auto note = notes_.recall(blob);
    return note ? std::string(as_text(note->bytes())) : "nothing";
  }
  std::string recall() const { return recall(blob_); }
  fs::path file_of(const format::Descriptor& blob) const {
    return temp_ / "trees" / (blob.digest.hex() + ".note");
  }
  std::string contents() const { return std::string(as_text(read_file(file_of(blob_), 1 << 20))); }
  void write(const std::string& contents) const { std::ofstream(file_of(blob_)) << contents; }

  test::TempDir temp_;
  const BlobNotes notes_{temp_ / "trees"};
  const format::Descriptor blob_ = describe("a large blob, of course");
};

TEST_F(BlobNotesTest, GivesWhatWasLeft) {
  EXPECT_EQ(recall(), "nothing");
  remember("a note");
  EXPECT_EQ(recall(), "a note");
  remember("another note");
  EXPECT_EQ(recall(), "another note");
  remember("");
  EXPECT_EQ(recall(), "");
}

TEST_F(BlobNotesTest, AreOfOneBlobEach) {
  remember("a note");
  const auto other = describe("another large blob");
  EXPECT_EQ(recall(other), "nothing");
  fs::copy_file(file_of(blob_), file_of(other));
  EXPECT_EQ(recall(other), "nothing");
}

TEST_F(BlobNotesTest, ThatAreDamagedDoNotCount) {
  remember("a note");
  const auto right = contents();
  for (std::size_t place = 0; place < right.size(); ++place) {
    auto wrong = right;
    wrong[place] ^= 1;
    write(wrong);
    EXPECT_EQ(recall(), "nothing") << place;
    write(right.substr(0, place));
    EXPECT_EQ(recall(), "nothing") << place;
  }
  write(right + "#");
  EXPECT_EQ(recall(), "nothing");
  write(right);
  EXPECT_EQ(recall(), "a note");
}

TEST_F(BlobNotesTest, ThatAreLargerThanTheirBlobAreNeitherKeptNorRead) {
  EXPECT_THROW(remember(std::string(blob_.size + 1, '#')), Error);
  EXPECT_EQ(recall(), "nothing");
  remember(std::string(blob_.size, '#'));
  auto smaller = blob_;
  --smaller.size;
  EXPECT_EQ(recall(smaller), "nothing");
}

TEST_F(BlobNotesTest, ThatAreNoFilesAreNotWaitedFor) {
  fs::create_directories(file_of(blob_));
  EXPECT_EQ(recall(), "nothing");
  EXPECT_THROW(remember("a note"), Error);
}

TEST_F(BlobNotesTest, MayBeCutShortWhileTheyAreInUse) {
  remember("a note");
  const auto note = notes_.recall(blob_);
  fs::resize_file(file_of(blob_), 0);
  EXPECT_EQ(as_text(note->bytes()), std::string(6, '\0'));
}

}  // namespace
}  // namespace puzzlefs::fetch
