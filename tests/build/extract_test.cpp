// From an image to a tree: what comes back is what was built, and nothing is written elsewhere.
#include "build/extract.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <filesystem>
#include <string>

#include "../support/temp_dir.h"
#include "build/build_image.h"
#include "format/error.h"
#include "trees.h"

namespace puzzlefs::build {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

class Extract : public testing::Test {
 protected:
  Extract() { fs::create_directory(root_); }

  void build(const BuildOptions& options = {}) const {
    build_image(root_, layout_, "tag", options);
  }

  ExtractResult extract(const fs::path& target) {
    const auto image = test::open_image(runtime_, layout_, "tag");
    return extract_image(*image, target);
  }

  std::string failure() {
    try {
      extract(target_);
    } catch (const Error& error) {
      return error.what();
    }
    return "no failure";
  }

  const test::TempDir scratch_;
  const fs::path root_ = scratch_ / "root";
  const fs::path target_ = scratch_ / "target";
  const fetch::Layout layout_ = fetch::Layout::create(scratch_ / "layout");
  fetch::Runtime runtime_{2};
};

TEST_F(Extract, GivesBackEveryKindOfFile) {
  if (!test::is_root()) GTEST_SKIP() << "needs root to make devices";
  test::make_kinds(root_);
  for (const bool compress : {false, true}) {
    build({.compress = compress});
    const fs::path target = scratch_ / (compress ? "compressed" : "plain");
    const ExtractResult result = extract(target);
    EXPECT_EQ(test::describe_tree(target), test::describe_tree(root_));
    EXPECT_EQ(result.inodes, 227U);
    EXPECT_EQ(result.bytes, 2'501'722U);
  }
}

TEST_F(Extract, GivesBackFilesOfManyChunksAndChunksOfManyFiles) {
  test::write_file(root_ / "large", test::noise(20'000'000, "large"));
  for (int i = 0; i < 500; ++i) {
    test::write_file(root_ / std::to_string(i), test::noise(700, std::to_string(i)));
  }
  test::write_file(root_ / "same", test::noise(20'000'000, "large"));
  build();
  extract(target_);
  EXPECT_EQ(test::describe_tree(target_), test::describe_tree(root_));
}

TEST_F(Extract, GivesBackDeepTreesWithFewDescriptors) {
  test::make_deep_tree(root_ / "deep", 1200);
  build();
  {
    const test::DescriptorLimit limit(200);
    extract(target_);
  }
  const auto first = layout_.resolve("tag").digest;
  const auto again = build_image(target_, layout_, "again", {}).manifest.digest;
  test::remove_deep_tree(root_ / "deep");
  test::remove_deep_tree(target_ / "deep");
  EXPECT_EQ(again, first);
}

TEST_F(Extract, LinksToAFileFarAway) {
  fs::create_directories(root_ / "a/b/c");
  fs::create_directories(root_ / "z/y");
  test::write_file(root_ / "a/b/c/file", "linked");
  fs::create_hard_link(root_ / "a/b/c/file", root_ / "z/y/link");
  fs::create_hard_link(root_ / "a/b/c/file", root_ / "a/b/near");
  build();
  extract(target_);
  EXPECT_EQ(test::describe_tree(target_), test::describe_tree(root_));
}

TEST_F(Extract, LeavesZerosAsHoles) {
  std::string content(4 << 20, '\0');
  content.front() = 'a';
  content[1'000'003] = 'b';
  test::write_file(root_ / "sparse", content);
  build();
  extract(target_);
  EXPECT_EQ(test::read_file(target_ / "sparse") == content, true);
  struct stat status {};
  ASSERT_EQ(::stat((target_ / "sparse").c_str(), &status), 0);
  EXPECT_LE(status.st_blocks * 512, 64 << 10);
}

TEST_F(Extract, UsesAnEmptyDirectoryThatIsThere) {
  test::write_file(root_ / "file", "content");
  build();
  fs::create_directory(target_);
  extract(target_);
  EXPECT_EQ(test::read_file(target_ / "file"), "content");
}

TEST_F(Extract, RefusesADirectoryThatIsNotEmpty) {
  build();
  fs::create_directory(target_);
  test::write_file(target_ / "precious", "");
  EXPECT_THAT(failure(), HasSubstr("not empty"));
}

TEST_F(Extract, NamesTheFileWhoseChunkIsFalsified) {
  test::write_file(root_ / "file", test::noise(30'000, "file"));
  build();
  const auto chunk = format::Digest::parse_hex(test::layer_digests(layout_, "tag").at(1));
  test::write_file(layout_.blob_path(chunk), test::noise(30'000, "other"));
  EXPECT_THROW(extract(target_), CorruptError);
}

// As a user without any rights, into a directory of his own.
class ExtractAsNobody : public Extract {
 protected:
  void SetUp() override {
    if (!test::is_root()) GTEST_SKIP() << "needs root to act as somebody else";
    fs::permissions(scratch_.path(), fs::perms(0755));
    fs::create_directory(target_);
    ASSERT_EQ(::chown(target_.c_str(), 65534, 65534), 0);
  }

  mode_t mode_of(const std::string& name) const {
    struct stat status {};
    EXPECT_EQ(::lstat((target_ / name).c_str(), &status), 0);
    EXPECT_EQ(status.st_uid, 65534U);
    return status.st_mode & 07777;
  }
};

TEST_F(ExtractAsNobody, FillsADirectoryThatForbidsWriting) {
  fs::create_directory(root_ / "closed");
  test::write_file(root_ / "closed/file", "content");
  fs::permissions(root_ / "closed/file", fs::perms(0400));
  fs::permissions(root_ / "closed", fs::perms(0500));
  build();
  const test::AsNobody unprivileged;
  extract(target_);
  EXPECT_EQ(mode_of("closed"), 0500U);
  EXPECT_EQ(mode_of("closed/file"), 0400U);
  EXPECT_EQ(test::read_file(target_ / "closed/file"), "content");
}

TEST_F(ExtractAsNobody, DoesNotLendItsRightsToOthersPrograms) {
  test::write_file(root_ / "program", "of root");
  ASSERT_EQ(::chmod((root_ / "program").c_str(), 06755), 0);
  build();
  const test::AsNobody unprivileged;
  extract(target_);
  EXPECT_EQ(mode_of("program"), 0755U);
}

TEST_F(ExtractAsNobody, KeepsTheSetIdBitsOfItsOwnPrograms) {
  test::write_file(root_ / "program", "of nobody");
  ASSERT_EQ(::chown((root_ / "program").c_str(), 65534, 65534), 0);
  ASSERT_EQ(::chmod((root_ / "program").c_str(), 04755), 0);
  build();
  const test::AsNobody unprivileged;
  extract(target_);
  EXPECT_EQ(mode_of("program"), 04755U);
}

TEST_F(ExtractAsNobody, LeavesOutTheDevicesThatItMayNotMake) {
  ASSERT_EQ(::mknod((root_ / "null").c_str(), S_IFCHR | 0666, makedev(1, 3)), 0);
  fs::create_hard_link(root_ / "null", root_ / "null.too");
  test::write_file(root_ / "other", "content");
  build();
  const test::AsNobody unprivileged;
  const ExtractResult result = extract(target_);
  EXPECT_EQ(result.left_out.devices.count, 2U);
  EXPECT_EQ(result.left_out.devices.first, target_ / "null");
  EXPECT_EQ(result.inodes, 2U);
  EXPECT_FALSE(fs::exists(target_ / "null.too"));
  EXPECT_EQ(test::read_file(target_ / "other"), "content");
}

TEST_F(ExtractAsNobody, LeavesOutTheAttributesThatItMayNotSet) {
  test::write_file(root_ / "file", "content");
  const std::string file = root_ / "file";
  ASSERT_EQ(::setxattr(file.c_str(), "trusted.mine", "1", 1, 0), 0);
  ASSERT_EQ(::setxattr(file.c_str(), "user.yours", "2", 1, 0), 0);
  build();
  const test::AsNobody unprivileged;
  const ExtractResult result = extract(target_);
  EXPECT_EQ(result.left_out.attributes.count, 1U);
  EXPECT_EQ(result.left_out.attributes.first, "trusted.mine of " + (target_ / "file").string());
  char value = 0;
  EXPECT_EQ(::getxattr((target_ / "file").c_str(), "user.yours", &value, 1), 1);
}

TEST_F(ExtractAsNobody, CountsTheOwnersThatItMayNotGive) {
  test::write_file(root_ / "mine", "");
  test::write_file(root_ / "of root", "");
  ASSERT_EQ(::chown((root_ / "mine").c_str(), 65534, 65534), 0);
  build();
  const test::AsNobody unprivileged;
  const ExtractResult result = extract(target_);
  EXPECT_EQ(result.left_out.owners.count, 2U);  // with the root directory
}

}  // namespace
}  // namespace puzzlefs::build
