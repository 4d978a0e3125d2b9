// Which mount options are accepted, and what is added to them.
#include "fs/mount_options.h"

#include <gmock/gmock.h>
#include <sys/mount.h>

#include "format/error.h"

namespace puzzlefs::fs {
namespace {

using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

constexpr MountKind kByRoot{.privileged = true, .writable = false};
constexpr MountKind kByUser{.privileged = false, .writable = false};
constexpr MountKind kWritable{.privileged = true, .writable = true};

std::string refusal(const std::string& option, MountKind kind = kByRoot) {
  try {
    complete_mount_options({option}, "image", kind);
  } catch (const UsageError& error) {
    return error.what();
  }
  return "";
}

TEST(MountOptions, AreReadOnlyWithPermissionsForEverybody) {
  EXPECT_THAT(complete_mount_options({}, "image", kByUser),
              ElementsAre("ro", "default_permissions", "subtype=puzzlefs", "fsname=image"));
}

TEST(MountOptions, OfAPrivilegedMountSuitContainers) {
  const auto options = complete_mount_options({}, "image", kByRoot);
  EXPECT_THAT(options, Contains("dev"));
  EXPECT_THAT(options, Contains("suid"));
  EXPECT_THAT(options, Contains("allow_other"));
}

TEST(MountOptions, OfTheUserComeLastAndSoWin) {
  const auto options = complete_mount_options({"nosuid,nodev", "fsname=mine"}, "image", kByRoot);
  ASSERT_GE(options.size(), 3U);
  EXPECT_THAT(std::vector(options.end() - 3, options.end()),
              ElementsAre("nosuid", "nodev", "fsname=mine"));
}

TEST(MountOptions, AllowRootExcludesAllowOther) {
  EXPECT_THAT(complete_mount_options({"allow_root"}, "image", kByRoot),
              Not(Contains("allow_other")));
}

TEST(MountOptions, EscapeWhatLibfuseWouldSplit) {
  EXPECT_THAT(complete_mount_options({}, "/a,b\\c", kByUser), Contains("fsname=/a\\,b\\\\c"));
}

TEST(MountOptions, RefuseAnUnknownOneAndListTheKnown) {
  EXPECT_THAT(refusal("sloppy"), HasSubstr("\"sloppy\""));
  EXPECT_THAT(refusal("sloppy"), HasSubstr("allow_other, allow_root"));
  EXPECT_THAT(refusal("fsname="), HasSubstr("\"fsname=\""));
}

TEST(MountOptions, RefuseToBeWritable) {
  EXPECT_THAT(refusal("rw"), HasSubstr("--writable"));
}

TEST(MountOptions, OfAnImageBelowAnOverlayAreReadOnlyAllTheSame) {
  const auto options = complete_mount_options({"rw,nodev"}, "image", kWritable);
  EXPECT_THAT(options, Contains("ro"));
  EXPECT_THAT(options, Contains("nodev"));
  EXPECT_THAT(options, Not(Contains("rw")));
}

TEST(MountOptions, RefuseWhatAnOverlayCannotHave) {
  EXPECT_THAT(refusal("ro", kWritable), HasSubstr("--writable"));
  EXPECT_THAT(refusal("auto_unmount", kWritable), HasSubstr("--writable"));
  EXPECT_THAT(refusal("allow_root", kWritable), HasSubstr("--writable"));
  EXPECT_THAT(refusal("subtype=mine", kWritable), HasSubstr("--writable"));
}

TEST(MountOptions, LeaveOutWhatLibfuseDoesNotKnowAndNeedNot) {
  const auto options = complete_mount_options({"relatime,diratime,noatime"}, "image", kByRoot);
  EXPECT_THAT(options, Not(Contains("relatime")));
  EXPECT_THAT(options, Not(Contains("diratime")));
  EXPECT_THAT(options, Contains("noatime"));
}

TEST(MountOptions, OfMount8ItselfAreLeftToIt) {
  const auto plain = complete_mount_options({}, "image", kByRoot);
  EXPECT_EQ(complete_mount_options({"defaults,noauto,nofail,_netdev,user,x-systemd.automount"},
                                   "image", kByRoot),
            plain);
  EXPECT_EQ(
      complete_mount_options({"lazytime,norelatime,nodiratime,strictatime"}, "image", kByRoot),
      plain);
}

TEST(MountOptions, MayHoldACommaBehindABackslash) {
  EXPECT_EQ(complete_mount_options({"nodev,fsname=a\\,b"}, "image", kByRoot).back(),
            "fsname=a\\,b");
  EXPECT_EQ(source_option({"nodev,fsname=a\\,b"}, "image"), "a,b");
  EXPECT_EQ(source_option({"nodev"}, "image"), "image");
}

TEST(MountOptions, LimitReadsToANumberOfBytes) {
  EXPECT_EQ(max_read_option({"nodev"}), 0U);
  EXPECT_EQ(max_read_option({"max_read=131072,max_read=65536"}), 65536U);
  for (const auto* wrong :
       {"max_read=4095", "max_read=64k", "max_read=-1", "max_read=99999999999"}) {
    EXPECT_THROW(max_read_option({wrong}), UsageError) << wrong;
  }
}

TEST(MountOptions, TellAnImageBelowAnOverlayFromOthers) {
  EXPECT_THAT(complete_mount_options({}, "image", kWritable), Contains("subtype=puzzlefs.lower"));
  EXPECT_THAT(complete_mount_options({}, "image", kByRoot), Contains("subtype=puzzlefs"));
}

TEST(MountOptions, CanNameAnotherType) {
  EXPECT_EQ(complete_mount_options({"subtype=mine"}, "image", kByRoot).back(), "subtype=mine");
  EXPECT_THAT(refusal("subtype="), HasSubstr("\"subtype=\""));
}

TEST(MountOptions, OfTheKernelAreItsFlags) {
  EXPECT_EQ(kernel_mount_flags({}), 0UL);
  EXPECT_EQ(kernel_mount_flags({"nosuid,nodev", "noexec", "fsname=x", "allow_other"}),
            static_cast<unsigned long>(MS_NOSUID | MS_NODEV | MS_NOEXEC));
  EXPECT_EQ(kernel_mount_flags({"nosuid,suid,sync"}), static_cast<unsigned long>(MS_SYNCHRONOUS));
}

}  // namespace
}  // namespace puzzlefs::fs
