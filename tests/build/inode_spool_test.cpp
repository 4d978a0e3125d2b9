// What a build keeps in scratch files instead of memory.
#include "build/inode_spool.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "../support/temp_dir.h"
#include "build/scratch_file.h"
#include "format/error.h"

namespace puzzlefs::build {
namespace {

namespace fs = std::filesystem;
using format::InodeNumber;

// An inode with something in every field, of a size that depends on its number.
SpooledInode make_inode(std::uint64_t number) {
  SpooledInode inode;
  auto& record = inode.record;
  record.ino = InodeNumber{number};
  record.type = format::FileType::kDirectory;
  record.uid = 1000;
  record.gid = 2000;
  record.permissions = 04755;
  record.device = {.major = 8, .minor = 1};
  for (std::uint64_t i = 0; i < number % 7 * 40; ++i)
    record.entries.push_back({InodeNumber{i}, "entry " + std::to_string(i)});
  for (std::uint64_t i = 0; i < number % 3; ++i) {
    record.chunks.push_back({.blob = format::sha256(as_bytes(std::to_string(i))),
                             .offset = i,
                             .size = number,
                             .compressed = true,
                             .index = format::ChunkIndex{5}});
  }
  record.symlink_target = std::string(number % 5, 't');
  record.xattrs = {{"user.a", std::string(3, '\0')}, {"user.b", ""}};
  record.mtime = -1;
  record.link_count = 3;
  inode.contents = {.offset = number << 32, .size = number};
  return inode;
}

// More than it gathers, and more than it reads at once.
constexpr std::uint32_t kMany = 3000;

// Spools inodes of all numbers up to kMany, in this order.
void expect_sorted(const std::vector<std::uint64_t>& numbers) {
  const test::TempDir directory;
  InodeSpool spool(directory.path());
  for (const std::uint64_t number : numbers) spool.add(make_inode(number));
  spool.sort();

  ASSERT_EQ(spool.size(), kMany);
  for (std::uint32_t place = 0; place < 17; ++place)
    EXPECT_EQ(spool.get(place), make_inode(place + 1)) << place;
  for (std::uint32_t place = 0; place < kMany; ++place)
    EXPECT_EQ(spool.get(place), make_inode(place + 1)) << place << " after a part of them";
  EXPECT_EQ(spool.get(0), make_inode(1)) << "after all of them";
  EXPECT_TRUE(fs::is_empty(directory.path()));
}

TEST(InodeSpool, GivesBackWhatItGotInTheOrderOfNumbers) {
  std::vector<std::uint64_t> numbers(kMany);
  std::iota(numbers.begin(), numbers.end(), 1);
  expect_sorted(numbers);
  // As a walk does: directories after what is in them.
  std::stable_partition(numbers.begin(), numbers.end(),
                        [](auto number) { return number % 9 != 1; });
  expect_sorted(numbers);
  std::reverse(numbers.begin(), numbers.end());
  expect_sorted(numbers);
  std::shuffle(numbers.begin(), numbers.end(), std::mt19937(1));
  expect_sorted(numbers);
}

TEST(InodeSpool, MayHaveNone) {
  const test::TempDir directory;
  InodeSpool spool(directory.path());
  spool.sort();
  EXPECT_EQ(spool.size(), 0U);
}

TEST(InodeSpool, HoldsAnInodeOfAnySize) {
  const test::TempDir directory;
  SpooledInode large = make_inode(1);
  for (std::uint64_t i = 0; i < 100'000; ++i)
    large.record.entries.push_back({InodeNumber{i}, std::to_string(i)});
  InodeSpool spool(directory.path());
  spool.add(large);
  spool.add(make_inode(2));
  spool.sort();
  EXPECT_EQ(spool.get(0), large);
  EXPECT_EQ(spool.get(1), make_inode(2));
}

TEST(ScratchSegments, AreZeroAndKeepTheirContentsWhenReleased) {
  const test::TempDir directory;
  ScratchSegments memory(directory.path());
  const auto small = memory.allocate(3);
  const auto large = memory.allocate(100'000);
  EXPECT_TRUE(std::all_of(large.begin(), large.end(), [](auto word) { return word == 0; }));
  std::fill(small.begin(), small.end(), 7);
  std::fill(large.begin(), large.end(), 8);

  memory.release();
  EXPECT_TRUE(std::all_of(small.begin(), small.end(), [](auto word) { return word == 7; }));
  EXPECT_TRUE(std::all_of(large.begin(), large.end(), [](auto word) { return word == 8; }));
  EXPECT_TRUE(fs::is_empty(directory.path()));
}

// As of a file system whose files cannot be mapped to be written.
void refuse_shared_mappings() {
  sock_filter program[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_mmap, 0, 3),
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, args[3])),  // the flags
      BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, MAP_SHARED, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENODEV),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
  const sock_fprog filter{std::size(program), program};
  const bool refused =
      ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
      ::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) == 0 &&
      ::mmap(nullptr, 1, PROT_READ, MAP_SHARED | MAP_ANONYMOUS, -1, 0) == MAP_FAILED;
  if (!refused) ::_exit(2);
}

TEST(ScratchSegments, AreInMemoryWhereFilesCannotBeMapped) {
  const test::TempDir directory;
  const auto work = [&] {
    refuse_shared_mappings();
    ScratchSegments memory(directory.path());
    const auto words = memory.allocate(10'000);
    std::fill(words.begin(), words.end(), 7);
    memory.release();
    ::_exit(std::all_of(words.begin(), words.end(), [](auto word) { return word == 7; }) ? 0 : 1);
  };
  EXPECT_EXIT(work(), testing::ExitedWithCode(0), "");
}

// Megabytes of the process that are pages of files or shared.
std::uint64_t resident_of_files() {
  std::ifstream status("/proc/self/status");
  std::uint64_t sum = 0;
  for (std::string word; status >> word;) {
    if (word != "RssFile:" && word != "RssShmem:") continue;
    std::uint64_t kilobytes = 0;
    status >> kilobytes;
    sum += kilobytes / 1024;
  }
  return sum;
}

TEST(ScratchSegments, AreNotResidentOnceReleased) {
  const test::TempDir directory;
  constexpr std::size_t kMegabytes = 64;
  ScratchSegments memory(directory.path());
  const auto words = memory.allocate((kMegabytes << 20) / sizeof(std::uint64_t));
  const auto before = resident_of_files();
  std::fill(words.begin(), words.end(), 1);
  EXPECT_GE(resident_of_files(), before + kMegabytes - 1);
  memory.release();
  EXPECT_LE(resident_of_files(), before + 1);
}

// A file system that is soon full.
class SmallDisk : public testing::Test {
 protected:
  void SetUp() override {
    if (::mount("none", path().c_str(), "tmpfs", 0, "size=256k") != 0)
      GTEST_SKIP() << "may not mount";
    mounted_ = true;
  }
  void TearDown() override {
    if (mounted_) ::umount(path().c_str());
  }

  const fs::path& path() const { return directory_.path(); }

  template <class Action>
  void expect_full(const Action& action) {
    try {
      action();
      FAIL();
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ENOSPC);
      EXPECT_THAT(error.what(), testing::HasSubstr(path().string()));
    }
  }

 private:
  const test::TempDir directory_;
  bool mounted_ = false;
};

TEST_F(SmallDisk, HasNoRoomForSegments) {
  ScratchSegments memory(path());
  const auto words = memory.allocate(1024);
  expect_full([&] { memory.allocate(1 << 20); });
  std::fill(words.begin(), words.end(), 1);
}

TEST_F(SmallDisk, HasNoRoomForInodes) {
  InodeSpool spool(path());
  expect_full([&] {
    for (std::uint64_t number = 1; number < 10'000; ++number) spool.add(make_inode(number));
  });
}

}  // namespace
}  // namespace puzzlefs::build
