// A mounted image as programs see it, through the kernel.
#include "fs/session.h"

#include <dirent.h>
#include <fcntl.h>
#include <gmock/gmock.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <future>
#include <string>

#include "mounted_image.h"

namespace puzzlefs::fs {
namespace {

using test::directory;
using test::Entries;
using test::file;
using test::read_error;
using test::read_file;
using test::record;
using test::symlink;
using testing::ElementsAre;
using testing::UnorderedElementsAre;

/// Text that repeats nowhere at the same place.
std::string text_of_size(std::size_t size) {
  std::string text;
  for (std::size_t i = 0; text.size() < size; ++i) text += std::to_string(i) + ' ';
  text.resize(size);
  return text;
}

std::vector<std::string> names_in(const std::filesystem::path& path) {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(path)) {
    names.push_back(entry.path().filename());
  }
  return names;
}

class SessionTest : public testing::Test {
 protected:
  void SetUp() override {
    if (!test::MountedImage::is_possible()) GTEST_SKIP() << "FUSE cannot be used here";
  }

  test::MountedImage image_;
};

TEST_F(SessionTest, ServesTheContentsOfFiles) {
  const auto text = text_of_size(300000);
  const auto first = image_.whole_chunk(text);
  const auto second = image_.chunk("before|middle|after");
  image_.mount({directory(1, {{2, "large"}, {3, "middle"}, {4, "empty"}, {5, "both"}}),
                file(2, {first}), file(3, {{second, 7, 6, false}}), file(4),
                file(5, {{first.blob, 100000, 5000, false}, {second, 7, 6, false}})});
  EXPECT_EQ(read_file(image_ / "large"), text);
  EXPECT_EQ(read_file(image_ / "middle"), "middle");
  EXPECT_EQ(read_file(image_ / "empty"), "");
  EXPECT_EQ(read_file(image_ / "both"), text.substr(100000, 5000) + "middle");
}

TEST_F(SessionTest, ReadsFromAnyOffset) {
  const auto text = text_of_size(200000);
  image_.mount({directory(1, {{2, "f"}}), file(2, {image_.whole_chunk(text.substr(0, 70001)),
                                                   image_.whole_chunk(text.substr(70001))})});
  const fetch::FileDescriptor f(::open((image_ / "f").c_str(), O_RDONLY | O_CLOEXEC));
  std::string part(10, '\0');
  ASSERT_EQ(::pread(f.get(), part.data(), part.size(), 69996), 10);
  EXPECT_EQ(part, text.substr(69996, 10));
  EXPECT_EQ(::pread(f.get(), part.data(), part.size(), 200000), 0);
}

TEST_F(SessionTest, ServesALittleOfEachOfManyChunks) {
  std::vector<format::ChunkRef> pieces;
  std::string expected;
  for (int i = 0; i < 100; ++i) {
    const auto text = text_of_size(10000) + std::to_string(i);
    pieces.push_back({image_.chunk(text), 9998, text.size() - 9998, false});
    expected += text.substr(9998);
  }
  image_.mount({directory(1, {{2, "f"}}), file(2, pieces)});
  EXPECT_EQ(read_file(image_ / "f"), expected);
}

TEST_F(SessionTest, ServesAFileCutIntoCrumbs) {
  // One byte from each of two chunks in turn: far more pieces than one write can gather.
  const auto odd = image_.whole_chunk(std::string(3000, 'o'));
  const auto even = image_.whole_chunk(std::string(3000, 'e'));
  std::vector<format::ChunkRef> crumbs;
  std::string text;
  for (std::uint64_t i = 0; i < 3000; ++i) {
    crumbs.push_back({even.blob, i, 1, false});
    crumbs.push_back({odd.blob, i, 1, false});
    text += "eo";
  }
  image_.mount({directory(1, {{2, "f"}}), file(2, crumbs)});
  EXPECT_EQ(read_file(image_ / "f"), text);
}

TEST_F(SessionTest, AnswersOthersWhileOneReadWaits) {
  const auto slow = image_.whole_chunk("slow");
  const auto fast = image_.whole_chunk("fast");
  image_.source().hold(slow.blob);
  image_.mount({directory(1, {{2, "slow"}, {3, "fast"}, {4, "d"}}), file(2, {slow}),
                file(3, {fast}), directory(4, {{5, "x"}}), symlink(5, "../fast")},
               {.threads = 1});
  auto reader = std::async(std::launch::async, [&] { return read_file(image_ / "slow"); });
  image_.source().wait_for_reader(slow.blob);

  EXPECT_EQ(read_file(image_ / "fast"), "fast");
  EXPECT_EQ(std::filesystem::file_size(image_ / "slow"), 4U);
  EXPECT_THAT(names_in(image_ / "d"), ElementsAre("x"));
  EXPECT_EQ(read_file(image_ / "d/x"), "fast");

  image_.source().let_go(slow.blob);
  EXPECT_EQ(reader.get(), "slow");
}

TEST_F(SessionTest, AnswersManyReadsThatWaitForOneChunk) {
  const auto slow = image_.whole_chunk("slow");
  image_.source().hold(slow.blob);
  Entries entries;
  std::vector<format::InodeRecord> inodes;
  constexpr std::uint64_t kReaders = 64;
  for (std::uint64_t i = 2; i < 2 + kReaders; ++i) {
    entries.emplace_back(i, std::to_string(i));
    inodes.push_back(file(i, {slow}));
  }
  inodes.push_back(directory(1, entries));
  image_.mount(inodes);
  std::vector<std::future<std::string>> readers;
  for (const auto& [number, name] : entries) {
    readers.push_back(std::async(std::launch::async, read_file, image_ / name));
  }
  image_.source().wait_for_reader(slow.blob);
  image_.source().let_go(slow.blob);
  for (auto& reader : readers) EXPECT_EQ(reader.get(), "slow");
}

TEST_F(SessionTest, GivesEioForAFailedFetchAndTriesAnewAtTheNextRead) {
  image_.mount({directory(1, {{2, "f"}}), file(2, {image_.whole_chunk("text")})});
  image_.source().set_failing(true);
  EXPECT_EQ(read_error(image_ / "f"), EIO);
  image_.source().set_failing(false);
  EXPECT_EQ(read_file(image_ / "f"), "text");
}

TEST_F(SessionTest, GivesEioForAPieceOutsideItsChunkOnly) {
  const auto chunk = image_.chunk("text");
  image_.mount({directory(1, {{2, "bad"}, {3, "crumbs"}, {4, "good"}}),
                file(2, {{chunk, 2, 3, false}}),
                file(3, std::vector<format::ChunkRef>(200, {chunk, 4, 1, false})),
                file(4, {{chunk, 2, 2, false}})});
  EXPECT_EQ(read_error(image_ / "bad"), EIO);
  EXPECT_EQ(read_error(image_ / "crumbs"), EIO);
  EXPECT_EQ(read_file(image_ / "good"), "xt");
}

TEST_F(SessionTest, GivesEioForAPieceWhoseSecondNeighbourLiesOutsideTheChunk) {
  const auto chunk = image_.chunk("text");
  image_.mount({directory(1, {{2, "bad"}}), file(2, {{chunk, 0, 4, false}, {chunk, 3, 4, false}})});
  EXPECT_EQ(read_error(image_ / "bad"), EIO);
}

TEST_F(SessionTest, ShowsAttributes) {
  auto device = record(3, format::FileType::kCharacterDevice);
  device.device = {.major = 4095, .minor = 1048575};
  auto owned = file(2, {image_.whole_chunk("text")});
  owned.uid = 4000000000;
  owned.permissions = 04711;
  image_.mount({directory(1, {{2, "a"}, {2, "b"}, {3, "dev"}}), owned, device});
  struct stat status {};
  ASSERT_EQ(::stat((image_ / "b").c_str(), &status), 0);
  EXPECT_EQ(status.st_ino, 2U);
  EXPECT_EQ(status.st_mode, static_cast<mode_t>(S_IFREG | 04711));
  EXPECT_EQ(status.st_nlink, 2U);
  EXPECT_EQ(status.st_uid, 4000000000U);
  EXPECT_EQ(status.st_size, 4);
  EXPECT_EQ(status.st_blocks, 1);
  ASSERT_EQ(::stat((image_ / "dev").c_str(), &status), 0);
  EXPECT_EQ(status.st_rdev, makedev(4095, 1048575));
}

TEST_F(SessionTest, ShowsLinkTargets) {
  const std::string target(4000, 't');
  image_.mount({directory(1, {{2, "l"}}), symlink(2, target)});
  EXPECT_EQ(std::filesystem::read_symlink(image_ / "l"), target);
}

TEST_F(SessionTest, ShowsExtendedAttributes) {
  auto owned = file(2);
  owned.xattrs = {{"user.note", "hello"}, {"user.empty", ""}, {"trusted.t", std::string(1, '\0')}};
  image_.mount({directory(1, {{2, "f"}}), owned});
  const std::string path = image_ / "f";

  std::string names(100, '\0');
  const auto size = ::listxattr(path.c_str(), names.data(), names.size());
  ASSERT_GT(size, 0);
  names.resize(static_cast<std::size_t>(size));
  EXPECT_EQ(names, std::string("user.note\0user.empty\0trusted.t\0", 31));
  EXPECT_EQ(::listxattr(path.c_str(), nullptr, 0), 31);

  std::string value(100, '\0');
  EXPECT_EQ(::getxattr(path.c_str(), "user.note", value.data(), value.size()), 5);
  EXPECT_EQ(value.substr(0, 5), "hello");
  EXPECT_EQ(::getxattr(path.c_str(), "user.note", nullptr, 0), 5);
  EXPECT_EQ(::getxattr(path.c_str(), "user.empty", value.data(), value.size()), 0);
  EXPECT_EQ(::getxattr(path.c_str(), "trusted.t", value.data(), value.size()), 1);
}

TEST_F(SessionTest, RefusesExtendedAttributesThatAreAbsentOrTooLarge) {
  auto owned = file(2);
  owned.xattrs = {{"user.note", "hello"}};
  image_.mount({directory(1, {{2, "f"}}), owned});
  const std::string path = image_ / "f";
  std::string value(4, '\0');
  EXPECT_EQ(::getxattr(path.c_str(), "user.note", value.data(), value.size()), -1);
  EXPECT_EQ(errno, ERANGE);
  EXPECT_EQ(::getxattr(path.c_str(), "user.other", value.data(), value.size()), -1);
  EXPECT_EQ(errno, ENODATA);
}

TEST_F(SessionTest, RefusesToListMoreExtendedAttributesThanLinuxCan) {
  auto owned = file(2);
  for (int i = 0; i < 400; ++i) {
    const auto digits = std::to_string(i);
    owned.xattrs.push_back({"user." + std::string(200, 'x') + digits, ""});
  }
  image_.mount({directory(1, {{2, "f"}}), owned});
  EXPECT_EQ(::listxattr((image_ / "f").c_str(), nullptr, 0), -1);
  EXPECT_EQ(errno, E2BIG);
}

TEST_F(SessionTest, ListsALargeDirectory) {
  constexpr std::uint64_t kCount = 100000;
  Entries entries;
  std::vector<format::InodeRecord> inodes;
  for (std::uint64_t i = 2; i < 2 + kCount; ++i) {
    entries.emplace_back(i, "name" + std::to_string(i));
    inodes.push_back(file(i));
  }
  inodes.push_back(directory(1, entries));
  image_.mount(inodes);
  std::vector<std::string> expected;
  for (const auto& [number, name] : entries) expected.push_back(name);
  EXPECT_EQ(names_in(image_.path()), expected);
  EXPECT_EQ(names_in(image_.path()), expected) << "from the kernel's cache";
}

TEST_F(SessionTest, ListsDotEntriesAndTypesButNoWhiteouts) {
  image_.mount({directory(1, {{2, "gone"}, {3, "d"}, {4, "l"}}), test::whiteout(2),
                directory(3, {}), symlink(4, "d")});
  std::vector<std::pair<std::string, int>> listed;
  DIR* const stream = ::opendir(image_.path().c_str());
  ASSERT_NE(stream, nullptr);
  while (const auto* entry = ::readdir(stream)) listed.emplace_back(entry->d_name, entry->d_type);
  ::closedir(stream);
  EXPECT_THAT(listed, UnorderedElementsAre(std::pair(".", DT_DIR), std::pair("..", DT_DIR),
                                           std::pair("d", DT_DIR), std::pair("l", DT_LNK)));
}

TEST_F(SessionTest, ListsADirectoryWithAMalformedInode) {
  image_.mount({directory(1, {{2, "bad"}, {3, "good"}}), symlink(2, ""), file(3)});
  EXPECT_THAT(names_in(image_.path()), ElementsAre("bad", "good"));
  struct stat status {};
  EXPECT_EQ(::lstat((image_ / "bad").c_str(), &status), -1);
  EXPECT_EQ(errno, EIO);
  EXPECT_EQ(::lstat((image_ / "good").c_str(), &status), 0);
}

TEST_F(SessionTest, TellsTotals) {
  image_.mount(
      {directory(1, {{2, "f"}, {3, "e"}}), file(2, {image_.whole_chunk("text")}), file(3)});
  struct statvfs status {};
  ASSERT_EQ(::statvfs(image_.path().c_str(), &status), 0);
  EXPECT_EQ(status.f_files, 3U);
  EXPECT_EQ(status.f_blocks, 1U);
  EXPECT_EQ(status.f_bfree, 0U);
  EXPECT_EQ(status.f_namemax, 255U);
  EXPECT_NE(status.f_flag & ST_RDONLY, 0U);
}

TEST_F(SessionTest, KnowsWhatIsNotThere) {
  image_.mount({directory(1, {{2, "f"}}), file(2)});
  EXPECT_EQ(read_error(image_ / "g"), ENOENT);
  EXPECT_EQ(read_error(image_ / "f/g"), ENOTDIR);
}

TEST_F(SessionTest, RefusesToBeChanged) {
  image_.mount({directory(1, {{2, "f"}}), file(2)});
  EXPECT_EQ(::open((image_ / "f").c_str(), O_WRONLY | O_CLOEXEC), -1);
  EXPECT_EQ(errno, EROFS);
  EXPECT_EQ(::mkdir((image_ / "d").c_str(), 0755), -1);
  EXPECT_EQ(errno, EROFS);
}

TEST_F(SessionTest, IsListedWithItsSource) {
  image_.mount({directory(1, {})}, {.source = "registry.example/a,b:latest"});
  const auto mount = mount_at(image_.path());
  ASSERT_TRUE(mount);
  EXPECT_EQ(mount->type, kMountType);
  EXPECT_EQ(mount->source, "registry.example/a,b:latest");
}

}  // namespace
}  // namespace puzzlefs::fs
