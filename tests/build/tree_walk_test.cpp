// The order of the walk and what it makes of each file.
#include "build/tree_walk.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "../support/temp_dir.h"
#include "format/error.h"
#include "trees.h"

namespace puzzlefs::build {
namespace {

namespace fs = std::filesystem;
using format::InodeRecord;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Pair;

// Keeps what a walk tells.
struct Collector final : TreeVisitor {
  void on_file(const WalkedFile& file) override {
    files.push_back(file.path + " " + std::to_string(file.status.st_size));
  }
  void on_inode(InodeRecord inode) override { inodes.push_back(std::move(inode)); }
  void on_link(format::InodeNumber number) override { links.push_back(number); }

  std::vector<std::string> files;
  std::vector<InodeRecord> inodes;
  std::vector<format::InodeNumber> links;
};

// By number.
std::vector<InodeRecord> walk(const fs::path& root) {
  Collector collector;
  walk_tree(root, nullptr, collector);
  std::sort(collector.inodes.begin(), collector.inodes.end(),
            [](const auto& a, const auto& b) { return a.ino < b.ino; });
  return std::move(collector.inodes);
}

// "number name …" for each entry of a directory.
std::vector<std::string> listing(const InodeRecord& directory) {
  std::vector<std::string> entries;
  for (const auto& entry : directory.entries) {
    entries.push_back(std::to_string(format::to_integer(entry.ino)) + " " + entry.name);
  }
  return entries;
}

std::vector<std::uint64_t> numbers(const std::vector<InodeRecord>& inodes) {
  std::vector<std::uint64_t> result;
  for (const auto& inode : inodes) result.push_back(format::to_integer(inode.ino));
  return result;
}

TEST(TreeWalk, NumbersTheChildrenOfADirectoryBeforeItDescends) {
  const test::TempDir root;
  fs::create_directories(root / "a/deeper");
  fs::create_directories(root / "c");
  test::write_file(root / "a/x", "");
  test::write_file(root / "b", "");
  test::write_file(root / "c/y", "");

  const auto inodes = walk(root.path());

  EXPECT_THAT(numbers(inodes), ElementsAre(1, 2, 3, 4, 5, 6, 7));
  EXPECT_THAT(listing(inodes[0]), ElementsAre("2 a", "3 b", "4 c"));
  EXPECT_THAT(listing(inodes[1]), ElementsAre("5 deeper", "6 x"));
  EXPECT_THAT(listing(inodes[3]), ElementsAre("7 y"));
}

TEST(TreeWalk, SortsNamesByTheirBytes) {
  const test::TempDir root;
  for (const char* name : {"a", "B", "\xc3\xa4", "a.b", "a b", "ab"}) {
    test::write_file(root / name, "");
  }
  EXPECT_THAT(listing(walk(root.path())[0]),
              ElementsAre("2 B", "3 a", "4 a b", "5 a.b", "6 ab", "7 \xc3\xa4"));
}

TEST(TreeWalk, LeavesTheNumberOfAHardLinkUnused) {
  const test::TempDir root;
  fs::create_directory(root / "a");
  test::write_file(root / "b", "linked");
  fs::create_hard_link(root / "b", root / "a/link");
  fs::create_hard_link(root / "b", root / "c");
  test::write_file(root / "d", "");

  const auto inodes = walk(root.path());

  EXPECT_THAT(listing(inodes[0]), ElementsAre("2 a", "3 b", "3 c", "5 d"));
  EXPECT_THAT(listing(inodes[1]), ElementsAre("3 link"));
  EXPECT_THAT(numbers(inodes), ElementsAre(1, 2, 3, 5));
}

TEST(TreeWalk, ShowsEachRegularFileOnceInTheOrderOfNumbers) {
  const test::TempDir root;
  fs::create_directory(root / "a");
  test::write_file(root / "a/inner", "1");
  test::write_file(root / "b", "22");
  fs::create_hard_link(root / "b", root / "c");
  fs::create_symlink("b", root / "d");

  Collector collector;
  walk_tree(root.path(), nullptr, collector);
  EXPECT_THAT(collector.files,
              ElementsAre((root / "b").string() + " 2", (root / "a/inner").string() + " 1"));
}

TEST(TreeWalk, CountsLinks) {
  const test::TempDir root;
  fs::create_directories(root / "a/deeper");
  fs::create_directory(root / "b");
  test::write_file(root / "file", "");
  fs::create_hard_link(root / "file", root / "link");
  fs::create_hard_link(root / "file", root / "a/link");

  Collector collector;
  walk_tree(root.path(), nullptr, collector);
  std::map<std::uint64_t, std::uint32_t> counts;
  for (const auto& inode : collector.inodes)
    counts[format::to_integer(inode.ino)] = inode.link_count;
  // The root, a, b, file, a/deeper.
  EXPECT_THAT(counts, ElementsAre(Pair(1, 4), Pair(2, 3), Pair(3, 2), Pair(4, 1), Pair(6, 2)));
  EXPECT_THAT(collector.links, ElementsAre(format::InodeNumber{4}, format::InodeNumber{4}));
}

TEST(TreeWalk, GoesDownAndUpAgainWithFewDescriptors) {
  const test::TempDir scratch;
  constexpr int kDepth = 1200;
  test::make_deep_tree(scratch / "deep", kDepth);
  const auto inodes = [&] {
    const test::DescriptorLimit limit(128);
    return walk(scratch / "deep");
  }();
  test::remove_deep_tree(scratch / "deep");
  EXPECT_EQ(inodes.size(), 1 + kDepth + kDepth / 100);
  EXPECT_THAT(listing(inodes.back()), ElementsAre());
}

TEST(TreeWalk, ComesBackToTheRightDirectoryFromFarBelow) {
  const test::TempDir scratch;
  const fs::path root = scratch / "root";
  test::make_deep_tree(root, 300);
  test::write_file(root / "directory/zzz", "");
  fs::create_directory(root / "directory/zz");
  test::write_file(root / "directory/zz/last", "");
  const auto inodes = walk(root);
  test::remove_deep_tree(root);
  EXPECT_THAT(listing(inodes[1]), ElementsAre("3 directory", "4 zz", "5 zzz"));
  EXPECT_THAT(listing(inodes[3]), ElementsAre(std::to_string(inodes.size()) + " last"));
}

TEST(TreeWalk, TakesADirectoryOfAnotherFileSystemAsEmpty) {
  const test::TempDir root;
  fs::create_directory(root / "mounted");
  if (::mount("none", (root / "mounted").c_str(), "tmpfs", 0, "mode=0711") != 0) {
    GTEST_SKIP() << "may not mount";
  }
  test::write_file(root / "mounted/elsewhere", "");
  const auto inodes = walk(root.path());
  ::umount((root / "mounted").c_str());

  ASSERT_EQ(inodes.size(), 2U);
  EXPECT_EQ(inodes[1].permissions, 0711);
  EXPECT_THAT(inodes[1].entries, ElementsAre());
}

TEST(TreeWalk, NamesTheFileThatItMayNotRead) {
  if (!test::is_root()) GTEST_SKIP() << "needs root to act as somebody else";
  const test::TempDir root;
  fs::permissions(root.path(), fs::perms(0755));
  test::write_file(root / "secret", "");
  fs::permissions(root / "secret", fs::perms(0600));
  const test::AsNobody unprivileged;
  try {
    walk(root.path());
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), EACCES);
    EXPECT_THAT(error.what(), HasSubstr((root / "secret").string()));
  }
}

TEST(TreeWalk, NamesTheRootThatDoesNotExist) {
  const test::TempDir scratch;
  try {
    walk(scratch / "nothing");
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ENOENT);
    EXPECT_THAT(error.what(), HasSubstr("nothing"));
  }
}

}  // namespace
}  // namespace puzzlefs::build
