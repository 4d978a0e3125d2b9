#include "fetch/mapped_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <utility>
#include <vector>

#include "../support/temp_dir.h"
#include "fetch/file_descriptor.h"
#include "format/error.h"

namespace puzzlefs::fetch {
namespace {

using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

constexpr std::size_t kSize = 100'000;

class MappedFileTest : public ::testing::Test {
 protected:
  std::filesystem::path make_file(const std::string& name) const {
    auto path = temp_ / name;
    std::ofstream(path) << std::string(kSize, 'x');
    return path;
  }

  test::TempDir temp_;
  const std::filesystem::path path_ = make_file("file");
};

char last_of(const MappedFile& file) {
  return static_cast<char>(file.bytes().back());
}

TEST_F(MappedFileTest, ShowsTheBytesOfItsFile) {
  const MappedFile file(path_);
  EXPECT_EQ(as_text(file.bytes()), std::string(kSize, 'x'));
  file.check_intact();
}

TEST_F(MappedFileTest, SaysWhichFileWasCutShortInsteadOfEndingTheProcess) {
  const MappedFile file(path_);
  std::filesystem::resize_file(path_, 5000);
  EXPECT_EQ(static_cast<char>(file.bytes()[4000]), 'x');
  file.check_intact();
  EXPECT_EQ(last_of(file), '\0');
  EXPECT_THAT([&] { file.check_intact(); }, ThrowsMessage<CorruptError>(HasSubstr(path_.native())));
}

TEST_F(MappedFileTest, ABrokenFileLeavesOthersIntact) {
  const auto other_path = make_file("other");
  const MappedFile other(other_path);
  MappedFile file(path_);
  std::filesystem::resize_file(path_, 0);
  EXPECT_EQ(last_of(file), '\0');
  const MappedFile moved(std::move(file));
  EXPECT_THROW(moved.check_intact(), CorruptError);
  EXPECT_EQ(last_of(other), 'x');
  other.check_intact();
}

TEST_F(MappedFileTest, IsIntactAgainWhenItIsMappedAgain) {
  {
    const MappedFile file(path_);
    std::filesystem::resize_file(path_, 0);
    EXPECT_EQ(last_of(file), '\0');
    EXPECT_THROW(file.check_intact(), CorruptError);
  }
  const MappedFile again(make_file("file"));
  EXPECT_EQ(last_of(again), 'x');
  again.check_intact();
}

TEST_F(MappedFileTest, RefusesMoreMappingsThanItCanWatchAndRecovers) {
  {
    std::vector<MappedFile> files;
    EXPECT_THROW(
        {
          while (files.size() < 10'000) files.emplace_back(path_);
        },
        Error);
  }
  MappedFile(path_).check_intact();
}

using MappedFileDeathTest = MappedFileTest;

TEST_F(MappedFileDeathTest, LeavesTheFaultsOfOthersFatal) {
  const MappedFile watched(path_);
  const auto other_path = make_file("other");
  const auto other = open_regular_file(other_path);
  void* const start = ::mmap(nullptr, kSize, PROT_READ, MAP_PRIVATE, other.get(), 0);
  ASSERT_NE(start, MAP_FAILED);
  std::filesystem::resize_file(other_path, 0);
  EXPECT_DEATH(static_cast<void>(*static_cast<const volatile char*>(start)), "");
  ::munmap(start, kSize);
}

}  // namespace
}  // namespace puzzlefs::fetch
