// Directories that should not be built into an image as they stand.
#include "build/source_tree.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "../support/temp_dir.h"
#include "format/error.h"

namespace puzzlefs::build {
namespace {

namespace fs = std::filesystem;

class SourceTree : public testing::Test {
 protected:
  SourceTree() { fs::create_directories(root_ / "below"); }

  void refuses(const fs::path& rootfs, const fs::path& layout) {
    EXPECT_THROW(check_source(rootfs, layout), UsageError) << layout;
  }

  const test::TempDir scratch_;
  const fs::path root_ = scratch_ / "root";
};

TEST_F(SourceTree, MayStandNextToTheLayout) {
  EXPECT_NO_THROW(check_source(root_, scratch_ / "layout"));
  EXPECT_NO_THROW(check_source(root_, scratch_ / "root-layout"));
  EXPECT_NO_THROW(check_source(root_ / "below", root_ / "layout"));
}

TEST_F(SourceTree, MayNotHoldTheLayout) {
  refuses(root_, root_);
  refuses(root_, root_ / "layout");
  refuses(root_, root_ / "below/none/layout");
  refuses(root_.string() + "/", root_ / "layout/");
  refuses(root_, scratch_ / "elsewhere/../root/layout");
  refuses("/", scratch_ / "layout");
}

TEST_F(SourceTree, MayNotHoldTheLayoutByWayOfALink) {
  fs::create_directory_symlink(root_, scratch_ / "link");
  refuses(root_, scratch_ / "link/layout");
  refuses(scratch_ / "link", root_ / "layout");
}

TEST_F(SourceTree, IsLookedForFromTheWorkingDirectory) {
  const fs::path before = fs::current_path();
  fs::current_path(root_);
  refuses(".", "layout");
  refuses(root_, "below/layout");
  EXPECT_NO_THROW(check_source(".", "../layout"));
  fs::current_path(before);
}

}  // namespace
}  // namespace puzzlefs::build
