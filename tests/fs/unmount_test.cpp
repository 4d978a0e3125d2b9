// Mounts as the kernel lists them, and unmounting what is there.
#include "fs/unmount.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <sys/mount.h>
#include <unistd.h>

#include <string>

#include "../support/temp_dir.h"
#include "format/error.h"
#include "scoped_mount.h"

namespace puzzlefs::fs {
namespace {

using testing::HasSubstr;

constexpr std::string_view kMountinfo =
    "22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw\n"
    "23 22 0:21 / /proc rw,nosuid - proc proc rw\n"
    "30 22 0:40 / /mnt/a\\040b\\134c ro - fuse.puzzlefs /srv/with\\040space ro,user_id=0\n"
    "31 22 0:41 / /mnt/twice rw - tmpfs below rw\n"
    "32 31 0:42 / /mnt/twice ro shared:7 master:1 - fuse.puzzlefs above ro\n"
    "garbage\n";

std::string refusal(const std::filesystem::path& path) {
  try {
    unmount(path, false);
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

TEST(FindMount, ReadsALine) {
  EXPECT_EQ(find_mount(kMountinfo, "/"),
            (Mount{.mountpoint = "/", .device = "254:0", .type = "ext4", .source = "/dev/vda"}));
}

TEST(FindMount, UndoesEscapes) {
  const auto mount = find_mount(kMountinfo, "/mnt/a b\\c");
  ASSERT_TRUE(mount);
  EXPECT_EQ(mount->source, "/srv/with space");
}

TEST(FindMount, TakesTheTopmost) {
  const auto mount = find_mount(kMountinfo, "/mnt/twice");
  ASSERT_TRUE(mount);
  EXPECT_EQ(mount->device, "0:42");
  EXPECT_EQ(mount->type, kMountType);
}

TEST(FindMount, FindsOnlyMountPoints) {
  EXPECT_FALSE(find_mount(kMountinfo, "/mnt"));
}

TEST(Unmount, RefusesAPlainDirectory) {
  const puzzlefs::test::TempDir directory;
  EXPECT_THAT(refusal(directory.path()), HasSubstr("Nothing is mounted at"));
}

TEST(Unmount, RefusesAnotherFileSystem) {
  const puzzlefs::test::TempDir directory;
  const test::ScopedMount mount(directory.path(), "tmpfs", "");
  if (!mount) GTEST_SKIP() << "mounting is not permitted here";
  EXPECT_THAT(refusal(directory.path()), HasSubstr("of type tmpfs"));
  EXPECT_TRUE(mount_at(directory.path()));
}

TEST(Unmount, RemovesAMountWhoseServerHasDied) {
  const puzzlefs::test::TempDir directory;
  const auto mount = test::dead_mount(directory.path());
  if (!mount) GTEST_SKIP() << "FUSE cannot be used here";
  ASSERT_EQ(::access(directory.path().c_str(), F_OK), -1);
  unmount(directory.path(), false);
  EXPECT_EQ(::access(directory.path().c_str(), F_OK), 0);
}

TEST(Unmount, TakesAPathAsPeopleTypeIt) {
  const puzzlefs::test::TempDir directory;
  std::filesystem::create_directory(directory / "real");
  std::filesystem::create_directory_symlink(directory / "real", directory / "link");
  const auto mount = test::dead_mount(directory / "real");
  if (!mount) GTEST_SKIP() << "FUSE cannot be used here";
  unmount(directory.path() / "link/../real/", false);
  EXPECT_FALSE(mount_at(directory / "real"));
}

}  // namespace
}  // namespace puzzlefs::fs
