// Reading files with holes, and noticing that they change meanwhile.
#include "build/file_reader.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <string>
#include <vector>

#include "../support/temp_dir.h"
#include "fetch/file_descriptor.h"
#include "format/error.h"
#include "trees.h"

namespace puzzlefs::build {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

constexpr std::uint64_t kSize = 8 << 20;
constexpr std::size_t kData = 64 << 10;

// Data at its beginning and a hole up to its end, read in steps of the data's size.
class SparseFile : public testing::Test {
 protected:
  SparseFile() {
    test::write_file(path_, test::noise(kData, "data"));
    fs::resize_file(path_, kSize);
    // As of long ago, so that a change shows however coarse the clock of the file system is.
    set_modified(1'000'000'000);
    fd_ = fetch::FileDescriptor(::open(path_.c_str(), O_RDWR | O_CLOEXEC));
    EXPECT_EQ(::fstat(fd_.get(), &opened_), 0);
  }

  void set_modified(time_t when) const {
    const struct timespec times[] = {{when, 0}, {when, 0}};
    EXPECT_EQ(::utimensat(AT_FDCWD, path_.c_str(), times, 0), 0);
  }

  // The rest, up to the end.
  std::string read_all(FileReader& reader) {
    std::string content;
    while (const std::size_t size = reader.read(space_)) {
      content.append(reinterpret_cast<const char*>(space_.data()), size);
    }
    return content;
  }

  std::string failure(FileReader& reader) {
    try {
      read_all(reader);
    } catch (const Error& error) {
      return error.what();
    }
    return "no failure";
  }

  const test::TempDir scratch_;
  const fs::path path_ = scratch_ / "sparse";
  const std::string name_ = path_.string();
  fetch::FileDescriptor fd_;
  struct stat opened_ {};
  std::vector<std::byte> space_{kData};
};

TEST_F(SparseFile, IsReadAsDataAndZeros) {
  FileReader reader(fd_.get(), opened_, name_);
  std::string expected = test::noise(kData, "data");
  expected.resize(kSize, '\0');
  EXPECT_TRUE(read_all(reader) == expected);
}

TEST_F(SparseFile, MayNotShrinkBeforeTheHoleIsFound) {
  FileReader reader(fd_.get(), opened_, name_);
  EXPECT_EQ(reader.read(space_), kData);
  fs::resize_file(path_, kData);
  EXPECT_THAT(failure(reader), HasSubstr(name_ + " changed while it was read"));
}

TEST_F(SparseFile, MayNotShrinkWhenTheHoleIsFound) {
  FileReader reader(fd_.get(), opened_, name_);
  for (int i = 0; i < 2; ++i) EXPECT_EQ(reader.read(space_), kData);
  fs::resize_file(path_, kData);
  EXPECT_THAT(failure(reader), HasSubstr("changed while it was read"));
}

TEST_F(SparseFile, MayNotShrinkBeforeTheFirstRead) {
  fs::resize_file(path_, 0);
  try {
    FileReader reader(fd_.get(), opened_, name_);
    ADD_FAILURE() << failure(reader);
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr("changed while it was read"));
  }
}

TEST_F(SparseFile, MayNotGrow) {
  FileReader reader(fd_.get(), opened_, name_);
  EXPECT_EQ(reader.read(space_), kData);
  fs::resize_file(path_, kSize + 1);
  EXPECT_THAT(failure(reader), HasSubstr("changed while it was read"));
}

TEST_F(SparseFile, MayNotBeWrittenToInPlace) {
  FileReader reader(fd_.get(), opened_, name_);
  EXPECT_EQ(reader.read(space_), kData);
  ASSERT_EQ(::pwrite(fd_.get(), "x", 1, 0), 1);
  EXPECT_THAT(failure(reader), HasSubstr("changed while it was read"));
}

TEST_F(SparseFile, MayGetAnotherNameAndMode) {
  FileReader reader(fd_.get(), opened_, name_);
  EXPECT_EQ(reader.read(space_), kData);
  fs::create_hard_link(path_, scratch_ / "link");
  fs::permissions(path_, fs::perms(0400));
  EXPECT_EQ(read_all(reader).size(), kSize - kData);
}

}  // namespace
}  // namespace puzzlefs::build
