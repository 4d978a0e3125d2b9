// What a mount tells of itself, and how it is found.
#include "fs/live_mount.h"

#include <gmock/gmock.h>
#include <linux/limits.h>
#include <spdlog/fmt/fmt.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#include <atomic>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <optional>
#include <string>

#include "fs/control_paths.h"
#include "mounted_image.h"

namespace puzzlefs::fs {
namespace {

using test::directory;
using test::file;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using testing::StartsWith;
using testing::ThrowsMessage;

std::optional<std::string> xattr(const std::filesystem::path& path, const std::string& name,
                                 std::size_t room = XATTR_SIZE_MAX) {
  std::string value(room, '\0');
  const auto size = ::getxattr(path.c_str(), name.c_str(), value.data(), value.size());
  if (size < 0) return std::nullopt;
  value.resize(static_cast<std::size_t>(size));
  return value;
}

class LiveMountTest : public testing::Test {
 protected:
  void SetUp() override {
    if (!test::MountedImage::is_possible()) GTEST_SKIP() << "FUSE cannot be used here";
  }

  SessionOptions options() {
    return {
        .root_xattrs = {{"user.puzzlefs.stats", [this] { return std::string(text_); }}},
        .control = ControlOptions{.runtime = runtime_,
                                  .handlers = {{"/x",
                                                [] {
                                                  return ControlAnswer{"text/plain", "an answer"};
                                                }}},
                                  .directories = {directory_ / "run"}}};
  }

  puzzlefs::test::TempDir directory_;
  fetch::Runtime runtime_{1};
  std::atomic<const char*> text_ = "1";
  test::MountedImage image_;
};

TEST_F(LiveMountTest, TheRootHasAttributesThatAreNotListed) {
  auto root = directory(1, {{2, "f"}});
  root.xattrs = {{"user.own", "its own"}};
  image_.mount({root, file(2)}, options());
  EXPECT_EQ(xattr(image_.path(), "user.puzzlefs.stats"), "1");
  EXPECT_EQ(xattr(image_.path(), "user.own"), "its own");
  EXPECT_EQ(xattr(image_.path(), "user.puzzlefs.other"), std::nullopt);
  EXPECT_EQ(xattr(image_ / "f", "user.puzzlefs.stats"), std::nullopt);
  std::string names(1000, '\0');
  const auto size = ::listxattr(image_.path().c_str(), names.data(), names.size());
  ASSERT_GE(size, 0);
  names.resize(static_cast<std::size_t>(size));
  EXPECT_EQ(names, std::string("user.own\0", 9));
}

TEST_F(LiveMountTest, AnAttributeOfTheImageWins) {
  auto root = directory(1, {});
  root.xattrs = {{"user.puzzlefs.stats", "the image's"}};
  image_.mount({root}, options());
  EXPECT_EQ(xattr(image_.path(), "user.puzzlefs.stats"), "the image's");
}

TEST_F(LiveMountTest, AValueIsMadeAnewAndMayGrowBetweenItsSizeAndItself) {
  image_.mount({directory(1, {})}, options());
  const auto size = ::getxattr(image_.path().c_str(), "user.puzzlefs.stats", nullptr, 0);
  ASSERT_GT(size, 0);
  text_ = "1234567890";
  EXPECT_EQ(xattr(image_.path(), "user.puzzlefs.stats", static_cast<std::size_t>(size)),
            "1234567890");
}

TEST_F(LiveMountTest, TheSocketIsAnAttributeAndGoesWithTheMount) {
  image_.mount({directory(1, {})}, options());
  const auto path = xattr(image_.path(), "user.puzzlefs.socket");
  ASSERT_TRUE(path);
  EXPECT_THAT(*path, StartsWith((directory_ / "run").native()));
  EXPECT_TRUE(std::filesystem::exists(*path));
  const auto mount = LiveMount::find(image_.path());
  EXPECT_EQ(mount.ask("/x"), "an answer");
  EXPECT_THAT([&] { mount.ask("/y"); }, ThrowsMessage<Error>(HasSubstr("404")));
  unmount(image_.path(), false);
  image_.wait_for_end();
  EXPECT_FALSE(std::filesystem::exists(*path));
}

TEST_F(LiveMountTest, ADeadServersSocketDoesNotHideTheLivingOne) {
  ASSERT_EQ(::setenv("XDG_RUNTIME_DIR", directory_.path().c_str(), 1), 0);
  image_.mount({directory(1, {})}, options());
  struct stat status {};
  ASSERT_EQ(::stat(image_.path().c_str(), &status), 0);
  const auto device = fmt::format("{}:{}", major(status.st_dev), minor(status.st_dev));
  std::filesystem::create_directory(directory_ / "puzzlefs");
  std::ofstream(directory_ / "puzzlefs" /
                fmt::format("{}.{}-1.sock", major(status.st_dev), minor(status.st_dev)));
  ASSERT_THAT(find_control_paths(control_directories(), device), Not(IsEmpty()));
  EXPECT_EQ(LiveMount::find(image_.path()).ask("/x"), "an answer");
}

TEST_F(LiveMountTest, WithoutAPlaceForItThereIsNoSocket) {
  auto without = options();
  without.control->directories.clear();
  image_.mount({directory(1, {})}, without);
  EXPECT_EQ(xattr(image_.path(), "user.puzzlefs.socket"), std::nullopt);
  EXPECT_EQ(xattr(image_.path(), "user.puzzlefs.stats"), "1");
}

TEST_F(LiveMountTest, WhatIsNoMountIsRefused) {
  EXPECT_THAT([&] { LiveMount::find(directory_.path()); },
              ThrowsMessage<Error>(HasSubstr("Nothing is mounted at")));
  EXPECT_THAT([&] { LiveMount::find("/proc"); },
              ThrowsMessage<Error>(HasSubstr("/proc is not a puzzlefs mount")));
}

}  // namespace
}  // namespace puzzlefs::fs
