// Times of modification on their way into an image and out of it.
#include "build/timestamps.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <array>
#include <filesystem>
#include <limits>
#include <string>
#include <utility>

#include "../support/environment.h"
#include "../support/temp_dir.h"
#include "build/build_image.h"
#include "build/extract.h"
#include "format/error.h"
#include "format/nanoseconds.h"
#include "trees.h"

namespace puzzlefs::build {
namespace {

namespace fs = std::filesystem;

TEST(SourceDateEpoch, IsSecondsOrNothing) {
  const auto epoch_of = [](const std::optional<std::string>& value) {
    const test::ScopedVariable variable("SOURCE_DATE_EPOCH", value);
    return source_date_epoch();
  };
  EXPECT_EQ(epoch_of(std::nullopt), std::nullopt);
  EXPECT_EQ(epoch_of(""), std::nullopt);
  EXPECT_EQ(epoch_of("0"), 0);
  EXPECT_EQ(epoch_of("1700000000"), 1'700'000'000);
  for (const char* wrong : {"yesterday", "-1", " 1", "1 ", "1.5", "0x10", "99999999999999999999"})
    EXPECT_THROW(epoch_of(wrong), UsageError) << wrong;
}

TEST(Timestamps, GoThereAndBack) {
  constexpr auto kMost = std::numeric_limits<std::int64_t>::max();
  for (const std::int64_t time :
       {std::int64_t{0}, std::int64_t{1}, std::int64_t{-1}, std::int64_t{1'700'000'000'123'456'789},
        std::int64_t{-1'500'000'000}}) {
    const auto spec = format::to_timespec(time);
    EXPECT_GE(spec.tv_nsec, 0);
    EXPECT_EQ(format::to_nanoseconds(spec), time);
  }
  EXPECT_EQ(format::to_timespec(-1).tv_sec, -1);
  EXPECT_LT(format::to_timespec(-kMost - 1).tv_sec, -9'000'000'000);
  EXPECT_GT(format::to_nanoseconds({.tv_sec = kMost, .tv_nsec = 5}), kMost / 10 * 9);
  EXPECT_LT(format::to_nanoseconds({.tv_sec = -kMost, .tv_nsec = 5}), -(kMost / 10 * 9));
}

TEST(Timestamps, AreClampedWithoutOverflow) {
  EXPECT_EQ(recorded_time({Timestamps::kClamp, 9'000'000'000'000'000'000}, 7), 7);
  EXPECT_EQ(recorded_time({Timestamps::kClamp, 0}, 7), 0);
  EXPECT_EQ(recorded_time({Timestamps::kClamp, 0}, -7), -7);
}

class ChunkedTimes : public testing::Test {
 protected:
  ChunkedTimes() {
    fs::create_directories(root_ / "dir");
    test::write_file(root_ / "dir/file", test::noise(100'000, "file"));
    fs::create_symlink("file", root_ / "dir/link");
    fs::create_hard_link(root_ / "dir/file", root_ / "name");
    std::int64_t second = 1'500'000'000;
    for (const char* path : {"dir/file", "dir/link", "dir", "."}) set_time(path, second++);
  }

  void set_time(const std::string& path, std::int64_t second) const {
    const std::array<struct timespec, 2> times{{{1, 0}, {second, 250}}};
    ASSERT_EQ(::utimensat(AT_FDCWD, (root_ / path).c_str(), times.data(), AT_SYMLINK_NOFOLLOW), 0);
  }

  static std::pair<std::int64_t, std::int64_t> time_of(const fs::path& path) {
    struct stat status {};
    EXPECT_EQ(::lstat(path.c_str(), &status), 0);
    return {status.st_mtim.tv_sec, status.st_mtim.tv_nsec};
  }

  const test::TempDir scratch_;
  const fs::path root_ = scratch_ / "root";
  const fetch::Layout layout_ = fetch::Layout::create(scratch_ / "layout");
  fetch::Runtime runtime_{2};
};

TEST_F(ChunkedTimes, AreKeptIfAskedForAndExtracted) {
  build_image(root_, layout_, "tag", {.timestamps = TimestampRule{Timestamps::kKeep}});
  const auto image = test::open_image(runtime_, layout_, "tag");
  EXPECT_EQ(image->metadata().version(), 3U);
  const fs::path target = scratch_ / "target";
  extract_image(*image, target);
  for (const char* path : {"dir/file", "dir/link", "dir", "name", "."})
    EXPECT_EQ(time_of(target / path), time_of(root_ / path)) << path;
  EXPECT_EQ(time_of(target / "dir").first, 1'500'000'002);
  EXPECT_EQ(test::describe_tree(target), test::describe_tree(root_));
}

TEST_F(ChunkedTimes, AreNotRecordedOtherwise) {
  build_image(root_, layout_, "tag", {});
  const auto image = test::open_image(runtime_, layout_, "tag");
  const auto inode = image->metadata().get(format::kRootInode);
  EXPECT_EQ(inode.mtime(), 0);
  EXPECT_EQ(inode.link_count(), 0U);
}

TEST_F(ChunkedTimes, OfZeroComeWithLinkCounts) {
  build_image(root_, layout_, "tag", {.timestamps = TimestampRule{Timestamps::kZero}});
  const auto image = test::open_image(runtime_, layout_, "tag");
  const auto inode = image->metadata().get(format::kRootInode);
  EXPECT_EQ(inode.mtime(), 0);
  EXPECT_EQ(inode.link_count(), 3U);
}

}  // namespace
}  // namespace puzzlefs::build
