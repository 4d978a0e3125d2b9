// Whole files that the kernel reads by itself, and what happens where it cannot.
#include <linux/capability.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <sys/utsname.h>

#include <array>
#include <cstdio>
#include <thread>

#include "scoped_mount.h"
#include "whole_files_test.h"

namespace puzzlefs::fs {
namespace {

using test::read_file;
using testing::HasSubstr;
using testing::Not;

/// More than one request of the kernel, and no whole number of pages.
constexpr std::size_t kLarge = (5 << 20) + 123;

class PassthroughMount : public test::WholeFilesTest {
 protected:
  /// Mounts, with a whole file of `size` bytes on offer. False if the kernel offers no passthrough.
  bool mount_with_offer(const SessionOptions& options = {}, std::size_t size = 6) {
    whole_files_.offer(make_whole(size));
    mount(options, size);
    return kernel_offers_it();
  }
  bool kernel_offers_it() const {
    return log_.text().find("the kernel does not offer it") == std::string::npos;
  }
  /// Whether what is read is the whole file itself, and not a copy of its bytes that the kernel
  /// keeps for the mount.
  bool is_passed_through(const fetch::FileDescriptor& file) {
    read_all(file);
    change_whole();
    return read_all(file).front() == '!';
  }
};

#define SKIP_WITHOUT_PASSTHROUGH(offered)                           \
  if (!(offered))                                                   \
  GTEST_SKIP() << "This kernel offers no passthrough, which takes " \
                  "Linux 6.9 with CONFIG_FUSE_PASSTHROUGH."

TEST_F(PassthroughMount, ReadsAndMapsALargeFile) {
  SKIP_WITHOUT_PASSTHROUGH(mount_with_offer({}, kLarge));
  const auto f = open_f();
  EXPECT_TRUE(read_all(f, kLarge) == whole_text(kLarge));
  EXPECT_TRUE(mapped(f, kLarge) == whole_text(kLarge));
  EXPECT_TRUE(is_passed_through(f));
  EXPECT_EQ(mapped(f, 1), "!");
}

TEST_F(PassthroughMount, KeepsAMappingAfterTheClose) {
  SKIP_WITHOUT_PASSTHROUGH(mount_with_offer());
  auto f = open_f();
  const auto* const bytes =
      static_cast<const char*>(::mmap(nullptr, 6, PROT_READ, MAP_SHARED, f.get(), 0));
  ASSERT_NE(bytes, MAP_FAILED);
  f = {};
  whole_files_.offer({});
  while (read_file(image_ / "f") != pieces_text()) std::this_thread::yield();
  EXPECT_EQ(std::string(bytes, 6), whole_text());
  ::munmap(const_cast<char*>(bytes), 6);
}

TEST_F(PassthroughMount, SharesTheFileAmongItsOpens) {
  SKIP_WITHOUT_PASSTHROUGH(mount_with_offer());
  const auto first = open_f();
  const auto second = open_f();
  EXPECT_TRUE(is_passed_through(first));
  EXPECT_TRUE(is_passed_through(second));
}

TEST_F(PassthroughMount, BeginsOnlyWhenNobodyReadsPieces) {
  mount();
  SKIP_WITHOUT_PASSTHROUGH(kernel_offers_it());
  auto pieces = open_f();
  EXPECT_EQ(mapped(pieces, 6), pieces_text());
  whole_files_.offer(make_whole());
  EXPECT_EQ(read_all(open_f()), pieces_text());
  pieces = {};
  whole_files_.wait_for_closed(1);
  const auto whole = open_f();
  EXPECT_EQ(read_all(whole), whole_text()) << "though the kernel keeps the bytes of the pieces";
  EXPECT_TRUE(is_passed_through(whole));
}

TEST_F(PassthroughMount, EndsWhenNobodyHasTheFileOpen) {
  SKIP_WITHOUT_PASSTHROUGH(mount_with_offer());
  EXPECT_TRUE(is_passed_through(open_f()));
  whole_files_.offer({});
  while (read_file(image_ / "f") != pieces_text()) std::this_thread::yield();
}

TEST_F(PassthroughMount, WorksUnderAWritableOverlay) {
  SKIP_WITHOUT_PASSTHROUGH(mount_with_offer({.overlay = OverlayOptions{}}));
  const auto f = open_f();
  EXPECT_TRUE(is_passed_through(f));
  std::ofstream(image_ / "f", std::ios::app) << " and more";
  EXPECT_EQ(read_file(image_ / "f"), "!" + whole_text().substr(1) + " and more");
}

TEST_F(PassthroughMount, LetsGoOfTheFileAfterTheLastClose) {
  const auto place = directory_ / "tmpfs";
  std::filesystem::create_directory(place);
  ASSERT_EQ(::mount("test", place.c_str(), "tmpfs", 0, ""), 0);
  std::filesystem::copy(make_whole(), place / "whole");
  whole_files_.offer(place / "whole");
  mount();
  auto f = open_f();
  EXPECT_EQ(read_all(f), whole_text());
  EXPECT_EQ(::umount2(place.c_str(), 0), -1) << "it is in use";
  f = {};
  whole_files_.offer({});
  // Some time after the close nobody uses the file system any more.
  while (::umount2(place.c_str(), 0) != 0) ASSERT_EQ(errno, EBUSY);
}

// Where the kernel cannot read it by itself.

TEST_F(PassthroughMount, IsReplacedBySplicedReplies) {
  mount_with_offer({.passthrough = false}, kLarge);
  const auto f = open_f();
  EXPECT_TRUE(read_all(f, kLarge) == whole_text(kLarge));
  EXPECT_TRUE(mapped(f, kLarge) == whole_text(kLarge));
  std::string text(100, '\0');
  ASSERT_EQ(::pread(f.get(), text.data(), text.size(), kLarge - 23), 23);
  EXPECT_EQ(text.substr(0, 23), whole_text(kLarge).substr(kLarge - 23));
  EXPECT_EQ(::pread(f.get(), text.data(), text.size(), kLarge), 0);
  EXPECT_FALSE(is_passed_through(f));
}

/// Takes CAP_SYS_ADMIN from the calling thread, or gives it back.
void set_sys_admin(bool effective) {
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  std::array<__user_cap_data_struct, 2> data{};
  ASSERT_EQ(::syscall(SYS_capget, &header, data.data()), 0);
  constexpr auto kBit = 1U << CAP_SYS_ADMIN;
  data[0].effective = effective ? data[0].effective | kBit : data[0].effective & ~kBit;
  ASSERT_EQ(::syscall(SYS_capset, &header, data.data()), 0);
}

TEST_F(PassthroughMount, IsGivenUpWithoutThePrivilege) {
  whole_files_.set_hook([] { set_sys_admin(false); });  // on the thread that will register it
  SKIP_WITHOUT_PASSTHROUGH(mount_with_offer({.threads = 1}));
  auto f = open_f();
  EXPECT_FALSE(is_passed_through(f));
  // It is not tried again, though it would be permitted now: the changed byte is not seen.
  whole_files_.set_hook([] { set_sys_admin(true); });
  while (whole_files_.opens() == 1) {
    f = {};
    f = open_f();
  }
  EXPECT_EQ(read_all(f), whole_text());
  f = {};
  EXPECT_THAT(log_of_session(), HasSubstr("that takes CAP_SYS_ADMIN"));
}

TEST_F(PassthroughMount, IsGivenUpOnAStackedFileSystem) {
  for (const auto* name : {"a", "b", "stacked"}) {
    std::filesystem::create_directory(directory_ / name);
  }
  std::filesystem::copy(make_whole(), directory_ / "a/whole");
  const auto stacked = directory_ / "stacked";
  const test::ScopedMount overlay(
      stacked, "overlay",
      "lowerdir=" + (directory_ / "a").string() + ":" + (directory_ / "b").string());
  if (!overlay) GTEST_SKIP() << "overlayfs cannot be mounted here";
  whole_files_.offer(stacked / "whole");
  mount();
  SKIP_WITHOUT_PASSTHROUGH(kernel_offers_it());
  EXPECT_EQ(read_file(image_ / "f"), whole_text());
  EXPECT_THAT(log_of_session(), HasSubstr("stacked on another"));
}

TEST_F(PassthroughMount, IsNotAskedForWithoutWholeFiles) {
  image_.mount(
      {test::directory(1, {{2, "f"}}), test::file(2, {image_.whole_chunk(pieces_text())})});
  EXPECT_EQ(read_file(image_ / "f"), pieces_text());
  EXPECT_THAT(log_of_session(), Not(HasSubstr("passthrough")));
}

}  // namespace
}  // namespace puzzlefs::fs
