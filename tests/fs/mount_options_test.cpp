// Which mount options are accepted, and what is added to them.
#include "fs/mount_options.h"

#include <gmock/gmock.h>

#include "format/error.h"

namespace puzzlefs::fs {
namespace {

using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

std::string refusal(const std::string& option) {
  try {
    complete_mount_options({option}, "image", true);
  } catch (const UsageError& error) {
    return error.what();
  }
  return "";
}

TEST(MountOptions, AreReadOnlyWithPermissionsForEverybody) {
  EXPECT_THAT(complete_mount_options({}, "image", false),
              ElementsAre("ro", "default_permissions", "subtype=puzzlefs", "fsname=image"));
}

TEST(MountOptions, OfAPrivilegedMountSuitContainers) {
  const auto options = complete_mount_options({}, "image", true);
  EXPECT_THAT(options, Contains("dev"));
  EXPECT_THAT(options, Contains("suid"));
  EXPECT_THAT(options, Contains("allow_other"));
}

TEST(MountOptions, OfTheUserComeLastAndSoWin) {
  const auto options = complete_mount_options({"nosuid,nodev", "fsname=mine"}, "image", true);
  ASSERT_GE(options.size(), 3U);
  EXPECT_THAT(std::vector(options.end() - 3, options.end()),
              ElementsAre("nosuid", "nodev", "fsname=mine"));
}

TEST(MountOptions, AllowRootExcludesAllowOther) {
  EXPECT_THAT(complete_mount_options({"allow_root"}, "image", true), Not(Contains("allow_other")));
}

TEST(MountOptions, EscapeWhatLibfuseWouldSplit) {
  EXPECT_THAT(complete_mount_options({}, "/a,b\\c", false), Contains("fsname=/a\\,b\\\\c"));
}

TEST(MountOptions, RefuseAnUnknownOneAndListTheKnown) {
  EXPECT_THAT(refusal("sloppy"), HasSubstr("\"sloppy\""));
  EXPECT_THAT(refusal("sloppy"), HasSubstr("allow_other, allow_root"));
  EXPECT_THAT(refusal("fsname="), HasSubstr("\"fsname=\""));
}

TEST(MountOptions, RefuseToBeWritable) {
  EXPECT_THAT(refusal("rw"), HasSubstr("read-only"));
}

}  // namespace
}  // namespace puzzlefs::fs
