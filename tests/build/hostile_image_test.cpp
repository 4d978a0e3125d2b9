// Extracting images that nobody built from a tree: an error, and nothing outside the target.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <string>
#include <vector>

#include "../support/temp_dir.h"
#include "build/extract.h"
#include "format/error.h"
#include "trees.h"

namespace puzzlefs::build {
namespace {

namespace fs = std::filesystem;
using format::ChunkRef;
using format::FileType;
using format::InodeNumber;
using format::InodeRecord;
using testing::HasSubstr;

InodeRecord inode(std::uint64_t number, FileType type) {
  InodeRecord record;
  record.ino = InodeNumber{number};
  record.type = type;
  record.uid = ::geteuid();
  record.gid = ::getegid();
  record.permissions = 0755;
  return record;
}

InodeRecord directory(std::uint64_t number, std::vector<format::DirEntryRecord> entries) {
  InodeRecord record = inode(number, FileType::kDirectory);
  record.entries = std::move(entries);
  return record;
}

InodeRecord file(std::uint64_t number, std::vector<ChunkRef> chunks) {
  InodeRecord record = inode(number, FileType::kRegular);
  record.chunks = std::move(chunks);
  return record;
}

InodeRecord symlink(std::uint64_t number, std::string target) {
  InodeRecord record = inode(number, FileType::kSymlink);
  record.symlink_target = std::move(target);
  return record;
}

ChunkRef piece(const std::string& chunk, std::uint64_t offset, std::uint64_t size) {
  return {.blob = format::sha256(as_bytes(chunk)), .offset = offset, .size = size};
}

format::DirEntryRecord entry(std::uint64_t number, std::string name) {
  return {InodeNumber{number}, std::move(name)};
}

class HostileImage : public testing::Test {
 protected:
  HostileImage() {
    fs::create_directory(scratch_ / "outside");
    fs::create_directory(scratch_ / "around");
  }
  // Nothing may have appeared next to the target or where links lead.
  ~HostileImage() override {
    EXPECT_TRUE(fs::is_empty(scratch_ / "outside"));
    for (const auto& item : fs::directory_iterator(scratch_ / "around")) {
      EXPECT_EQ(item.path(), target_);
    }
  }

  ExtractResult extract(const std::vector<std::vector<InodeRecord>>& layers,
                        const std::vector<std::string>& chunks = {}) {
    test::write_image(layout_, layers, chunks);
    return extract_image(*test::open_image(runtime_, layout_, "hostile"), target_);
  }

  const test::TempDir scratch_;
  const fs::path target_ = scratch_ / "around/target";
  const fetch::Layout layout_ = fetch::Layout::create(scratch_ / "layout");
  fetch::Runtime runtime_{2};
};

TEST_F(HostileImage, DirectoryInItself) {
  EXPECT_THROW(extract({{directory(1, {entry(2, "a")}), directory(2, {entry(2, "again")})}}),
               CorruptError);
}

TEST_F(HostileImage, RootBelowTheRoot) {
  EXPECT_THROW(extract({{directory(1, {entry(1, "root")})}}), CorruptError);
}

TEST_F(HostileImage, DirectoryInTwoPlaces) {
  EXPECT_THROW(extract({{directory(1, {entry(2, "a"), entry(2, "b")}), directory(2, {})}}),
               CorruptError);
}

TEST_F(HostileImage, RootThatIsNoDirectory) {
  EXPECT_THROW(extract({{symlink(1, "/")}}), CorruptError);
}

TEST_F(HostileImage, LinkAndDirectoryOfOneName) {
  const std::string outside = scratch_ / "outside";
  EXPECT_THROW(extract({{directory(1, {entry(2, "a"), entry(3, "a")}), symlink(2, outside),
                         directory(3, {entry(4, "file")}), file(4, {})}}),
               Error);
}

TEST_F(HostileImage, LinkAndFileOfOneName) {
  const std::string outside = scratch_ / "outside/file";
  EXPECT_THROW(
      extract({{directory(1, {entry(2, "a"), entry(3, "a")}), symlink(2, outside), file(3, {})}}),
      Error);
}

TEST_F(HostileImage, LinksThatLeaveTheTreeAreMadeAndNotFollowed) {
  const fs::path outside = scratch_ / "outside";
  fs::permissions(outside, fs::perms(0711));
  extract({{directory(1, {entry(2, "up"), entry(3, "away")}), symlink(2, "../.."),
            symlink(3, outside)}});
  EXPECT_EQ(fs::read_symlink(target_ / "up"), "../..");
  EXPECT_EQ(fs::status(outside).permissions(), fs::perms(0711));
}

TEST_F(HostileImage, NameThatLeadsUp) {
  EXPECT_THROW(extract({{directory(1, {entry(2, "../../outside/x")}), file(2, {})}}), CorruptError);
}

TEST_F(HostileImage, EntryOfNoInode) {
  EXPECT_THROW(extract({{directory(1, {entry(7, "nothing")})}}), CorruptError);
}

TEST_F(HostileImage, PieceBeyondItsChunk) {
  const std::string chunk = "a chunk";
  EXPECT_THROW(extract({{directory(1, {entry(2, "f")}), file(2, {piece(chunk, 3, 5)})}}, {chunk}),
               CorruptError);
}

TEST_F(HostileImage, PieceWhoseEndOverflows) {
  const std::string chunk = "a chunk";
  EXPECT_THROW(
      extract({{directory(1, {entry(2, "f")}), file(2, {piece(chunk, ~std::uint64_t{0}, 2)})}},
              {chunk}),
      CorruptError);
}

TEST_F(HostileImage, ChunkThatTheManifestDoesNotList) {
  EXPECT_THROW(extract({{directory(1, {entry(2, "f")}), file(2, {piece("unlisted", 0, 8)})}}),
               CorruptError);
}

TEST_F(HostileImage, ChunkThatTheLayoutHasLost) {
  const std::string chunk = "a chunk";
  test::write_image(layout_,
                    {{directory(1, {entry(2, "f")}), file(2, {piece(chunk, 0, chunk.size())})}},
                    {chunk});
  fs::remove(layout_.blob_path(format::sha256(as_bytes(chunk))));
  const auto image = test::open_image(runtime_, layout_, "hostile");
  EXPECT_THROW(extract_image(*image, target_), Error);
}

TEST_F(HostileImage, SmallChunkThatUnfoldsToAHugeFileTakesNoSpace) {
  const std::string chunk(1 << 20, '\0');
  const std::vector<ChunkRef> pieces(1 << 10, piece(chunk, 0, chunk.size()));
  const auto result = extract({{directory(1, {entry(2, "f")}), file(2, pieces)}}, {chunk});
  EXPECT_EQ(result.bytes, std::uint64_t{1} << 30);
  struct stat status {};
  ASSERT_EQ(::stat((target_ / "f").c_str(), &status), 0);
  EXPECT_EQ(status.st_blocks, 0);
}

TEST_F(HostileImage, DeviceNumberThatLinuxDoesNotKnow) {
  InodeRecord device = inode(2, FileType::kCharacterDevice);
  device.device = {.major = 4096, .minor = 3};
  EXPECT_THROW(extract({{directory(1, {entry(2, "device")}), device}}), Error);
}

// Which Linux refuses with EPERM to everybody: no want of privilege where root extracts.
TEST_F(HostileImage, AttributeThatASymbolicLinkCannotHave) {
  InodeRecord link = symlink(2, "target");
  link.xattrs = {{"user.key", {}}};
  const std::vector<std::vector<InodeRecord>> layers = {{directory(1, {entry(2, "link")}), link}};
  if (test::is_root()) {
    EXPECT_THROW(extract(layers), Error);
  } else {
    EXPECT_EQ(extract(layers).left_out.attributes.count, 1U);
  }
}

// The Rust puzzlefs leaves the entries of deleted files in their directory.
TEST_F(HostileImage, EntriesOfDeletedFilesAreLeftOut) {
  const auto result = extract(
      {{directory(1, {entry(2, "deleted"), entry(3, "kept")}), inode(2, FileType::kWhiteout)},
       {directory(1, {entry(2, "deleted"), entry(3, "kept")}), file(2, {}), file(3, {})}});
  EXPECT_EQ(result.inodes, 2U);
  EXPECT_FALSE(fs::exists(target_ / "deleted"));
  EXPECT_TRUE(fs::exists(target_ / "kept"));
}

}  // namespace
}  // namespace puzzlefs::build
