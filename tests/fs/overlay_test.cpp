// What a writable mount makes under its mount point, and what its end leaves. The mount itself is
// for the scenarios.
#include "fs/overlay.h"

#include <gmock/gmock.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "../support/temp_dir.h"
#include "format/error.h"

namespace puzzlefs::fs {
namespace {

namespace stdfs = std::filesystem;
using testing::HasSubstr;

class OverlayTest : public testing::Test {
 protected:
  void SetUp() override {
    if (::geteuid() != 0) GTEST_SKIP() << "takes root";
    stdfs::create_directory(place_);
  }
  void write(const stdfs::path& file) const {
    stdfs::create_directories(file.parent_path());
    std::ofstream(file) << "somebody's";
  }
  /// A directory as overlayfs makes it in its work directory.
  void make_as_kernel(const stdfs::path& directory) const {
    stdfs::create_directories(directory);
    stdfs::permissions(directory, stdfs::perms::none);
  }
  std::string refusal(const OverlayOptions& options = {}) const {
    try {
      const Overlay overlay(place_, options);
    } catch (const Error& error) {
      return error.what();
    }
    return "none";
  }

  test::TempDir directory_;
  const stdfs::path place_ = directory_ / "mnt";
};

TEST_F(OverlayTest, MakesItsDirectoriesAndTakesThemAwayAgain) {
  {
    const Overlay overlay(place_, {});
    EXPECT_EQ(overlay.lower(), stdfs::canonical(place_) / "ro");
    for (const auto* name : {"ro", "upper", "work"}) EXPECT_TRUE(is_directory(place_ / name));
  }
  EXPECT_TRUE(stdfs::is_empty(place_));
}

TEST_F(OverlayTest, LeavesTheChanges) {
  write(place_ / "upper/etc/passwd");
  EXPECT_EQ(refusal(), "none");
  EXPECT_TRUE(exists(place_ / "upper/etc/passwd"));
  EXPECT_FALSE(exists(place_ / "ro"));
}

TEST_F(OverlayTest, RemovesWhatTheKernelMade) {
  make_as_kernel(place_ / "work/work");
  make_as_kernel(place_ / "work/index");
  EXPECT_EQ(refusal(), "none");
  EXPECT_FALSE(exists(place_ / "work"));
}

TEST_F(OverlayTest, DoesNotTouchWhatTheKernelDidNotMake) {
  for (const auto* name : {"work/work/data", "work/index/data", "work/other"}) {
    write(place_ / name);
    EXPECT_THAT(refusal(), HasSubstr("overlayfs did not put there")) << name;
    remove_overlay_directories(place_);
    EXPECT_TRUE(exists(place_ / name));
    EXPECT_FALSE(exists(place_ / "ro"));
    EXPECT_FALSE(exists(place_ / "upper"));
    stdfs::remove_all(place_ / "work");
  }
}

TEST_F(OverlayTest, FollowsNoLinkUnderTheMountPoint) {
  write(directory_ / "victim/work/data");
  for (const auto* name : {"ro", "upper", "work"}) {
    stdfs::create_directory_symlink(directory_ / "victim", place_ / name);
    EXPECT_THAT(refusal(), HasSubstr(std::string(name) + " is in the way")) << name;
    remove_overlay_directories(place_);
    EXPECT_TRUE(is_symlink(place_ / name)) << name;
    stdfs::remove(place_ / name);
  }
  EXPECT_TRUE(exists(directory_ / "victim/work/data"));
}

TEST_F(OverlayTest, TakesANamedDirectoryByALink) {
  stdfs::create_directory(directory_ / "changes");
  stdfs::create_directory_symlink(directory_ / "changes", directory_ / "link");
  EXPECT_EQ(refusal({.upper = directory_ / "link/"}), "none");
  EXPECT_TRUE(stdfs::is_empty(place_));
  EXPECT_TRUE(exists(directory_ / "changes"));
}

TEST_F(OverlayTest, RefusesANamedDirectoryThatIsNone) {
  write(directory_ / "file");
  EXPECT_THAT(refusal({.upper = directory_ / "file"}), HasSubstr("is not a directory"));
  EXPECT_THAT(refusal({.upper = directory_ / "no/parent"}), HasSubstr("No such file"));
  EXPECT_THAT(refusal({.upper = place_}), HasSubstr("cannot be the mount point itself"));
  EXPECT_TRUE(stdfs::is_empty(place_));
}

TEST_F(OverlayTest, SharesItsDirectoriesWithNoOther) {
  const Overlay overlay(place_, {.upper = directory_ / "changes"});
  EXPECT_THAT(refusal(), HasSubstr("is in use by a writable mount"));
  stdfs::create_directory(directory_ / "other");
  try {
    const Overlay other(directory_ / "other", {.upper = directory_ / "changes"});
    FAIL() << "two use it";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), EBUSY);
  }
  EXPECT_TRUE(exists(place_ / "ro"));
  EXPECT_TRUE(stdfs::is_empty(directory_ / "other"));
}

}  // namespace
}  // namespace puzzlefs::fs
