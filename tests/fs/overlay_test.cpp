// Recognising a writable mount, and what its end leaves. Mounting one is for the scenarios.
#include "fs/overlay.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "../support/temp_dir.h"

namespace puzzlefs::fs {
namespace {

constexpr std::string_view kImage =
    "42 27 0:39 / /mnt/ro ro,relatime - fuse.puzzlefs oci:/images ro,user_id=0,group_id=0\n";
constexpr std::string_view kOverlay = "45 27 0:41 / /mnt rw,relatime - overlay oci:/images rw\n";

TEST(Overlay, IsAnOverlayWithAnImageBelow) {
  EXPECT_TRUE(is_overlay(std::string(kImage) + std::string(kOverlay), "/mnt"));
}

TEST(Overlay, IsNotAnOverlayOfSomebodyElse) {
  EXPECT_FALSE(is_overlay(kOverlay, "/mnt"));
  EXPECT_FALSE(
      is_overlay("42 27 0:39 / /mnt/ro ro - ext4 /dev/sda ro\n" + std::string(kOverlay), "/mnt"));
}

TEST(Overlay, IsNotAnImageOnItsOwn) {
  EXPECT_FALSE(is_overlay(kImage, "/mnt"));
  EXPECT_FALSE(is_overlay(kImage, "/mnt/ro"));
}

TEST(Overlay, LeavesOnlyTheChanges) {
  const test::TempDir place;
  for (const auto* const directory : {"ro", "upper/etc", "work/work/#2", "work/index"}) {
    std::filesystem::create_directories(place / directory);
  }
  std::ofstream(place / "upper/etc/passwd") << "changed";
  remove_overlay_directories(place.path());
  EXPECT_FALSE(exists(place / "ro"));
  EXPECT_FALSE(exists(place / "work"));
  EXPECT_TRUE(exists(place / "upper/etc/passwd"));
}

TEST(Overlay, LeavesWhatIsNotItsOwn) {
  const test::TempDir place;
  std::filesystem::create_directories(place / "ro/somebodys");
  std::filesystem::create_directories(place / "work/somebodys");
  remove_overlay_directories(place.path());
  EXPECT_TRUE(exists(place / "ro/somebodys"));
  EXPECT_TRUE(exists(place / "work/somebodys"));
}

}  // namespace
}  // namespace puzzlefs::fs
