#include "fetch/lazy_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstddef>
#include <filesystem>
#include <fstream>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "../support/temp_dir.h"
#include "format/error.h"
#include "format/verity.h"

namespace puzzlefs::fetch {
namespace {

constexpr std::size_t kPart = 8 << 10;
constexpr std::size_t kOfHashBlock = 128 * 4096;  // bytes that one block of leaves is of
constexpr std::size_t kHashBlock = 4096;

std::string make_content(std::size_t size) {
  std::string content;
  while (content.size() < size) content += std::to_string(content.size()) + " ";
  return content;
}

/// As above, in less time: what begins a part stands in no other.
std::string make_large_content(std::size_t size) {
  std::string content(size, 'x');
  for (std::size_t place = 0; place < size; place += kPart) {
    auto number = std::to_string(place / kPart);
    std::ranges::reverse(number);
    content.replace(place, std::min(number.size(), size - place), number, 0, size - place);
  }
  return content;
}

class LazyFileTest : public ::testing::Test {
 protected:
  explicit LazyFileTest(std::string content = make_content(kOfHashBlock + 5 * kPart + 777))
      : content_(std::move(content)) {}
  std::filesystem::path write(const std::string& name, std::string_view content) const {
    auto path = temp_ / name;
    std::ofstream(path, std::ios::binary) << content;
    return path;
  }
  LazyFile open(const std::filesystem::path& path) const {
    return {open_regular_file(path), content_.size(), tree()};
  }
  /// Made anew on the disk.
  VerityTree tree() const {
    trees_.remember(key_, as_bytes(content_), verity_);
    return std::move(trees_.recall(key_, content_.size(), verity_).value());
  }
  std::filesystem::path tree_file() const { return temp_ / "trees" / key_.hex(); }
  /// With another byte there.
  std::string falsified(std::size_t place) const {
    auto content = content_;
    content[place] = '#';
    return content;
  }

  test::TempDir temp_;
  const std::string content_;
  const std::filesystem::path path_ = write("file", content_);
  const VerityTrees trees_{temp_ / "trees"};
  const format::Digest key_ = format::sha256(as_bytes(content_));
  const format::Digest verity_ = format::verity_digest(as_bytes(content_));
};

void overwrite(const std::filesystem::path& path, std::size_t place, std::string_view text = "#") {
  std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
  file.seekp(static_cast<std::streamoff>(place));
  file << text;
}

std::string text_of(const std::filesystem::path& path) {
  const auto bytes = read_file(path, 1 << 20);
  return std::string(as_text(bytes));
}

char at(const LazyFile& file, std::size_t place) {
  return static_cast<char>(file.bytes()[place]);
}

TEST_F(LazyFileTest, ShowsTheBytesOfItsFile) {
  const auto file = open(path_);
  EXPECT_EQ(as_text(file.bytes()), content_);
  EXPECT_EQ(file.state(), 0);
}

TEST_F(LazyFileTest, ReadsAPartWhenItIsTouchedAndNotAgain) {
  const auto file = open(path_);
  EXPECT_EQ(at(file, 0), content_[0]);
  // Another file's content under the same descriptor.
  write("file", std::string(content_.size(), '#'));
  EXPECT_EQ(at(file, kPart - 1), content_[kPart - 1]);
  EXPECT_EQ(file.state(), 0);
  EXPECT_EQ(at(file, kPart), '\0');
  EXPECT_EQ(file.state(), 1);
}

TEST_F(LazyFileTest, MayBeHadAgainInMemoryOfItsOwn) {
  auto file = open(path_);
  EXPECT_EQ(at(file, 0), content_[0]);
  {
    const auto again = file.again();
    EXPECT_EQ(as_text(again->bytes()), content_);
  }
  write("file", std::string(content_.size(), '#'));
  EXPECT_EQ(at(file, 0), content_[0]);
  EXPECT_EQ(at(*file.again(), kPart), '\0');
  EXPECT_EQ(file.state(), 0);
  EXPECT_EQ(at(file, kPart), '\0') << "the other one has read it for itself only";
  file.replace(open_regular_file(write("right", content_)));
  EXPECT_EQ(as_text(file.again()->bytes()), content_);
}

TEST_F(LazyFileTest, ShowsNothingThatIsNotRight) {
  for (const auto place : {std::size_t{0}, 2 * kPart, 3 * kPart - 1, content_.size() - 1}) {
    const auto file = open(write("falsified", falsified(place)));
    EXPECT_EQ(at(file, place), '\0') << place;
    EXPECT_EQ(file.state(), 1) << place;
    EXPECT_EQ(at(file, kPart), content_[kPart]) << place;
  }
}

TEST_F(LazyFileTest, TakesAFileThatIsTooShortAsWrong) {
  const auto file = open(write("short", content_.substr(0, content_.size() - 1)));
  EXPECT_EQ(at(file, 0), content_[0]);
  EXPECT_EQ(file.state(), 0);
  EXPECT_EQ(at(file, content_.size() - 2), '\0');
  EXPECT_EQ(file.state(), 1);
}

TEST_F(LazyFileTest, ShowsWhatIsRightOnceTheFileIsReplaced) {
  auto file = open(write("falsified", falsified(kPart)));
  EXPECT_EQ(at(file, kPart), '\0');
  file.replace(open_regular_file(path_));
  EXPECT_EQ(file.state(), 2);
  EXPECT_EQ(as_text(file.bytes()), content_);
  EXPECT_EQ(file.state(), 2);
}

TEST_F(LazyFileTest, MakesLeavesThatAreNotRightAnewFromTheFile) {
  for (const auto place : {std::size_t{0}, 100 * std::size_t{32}, kHashBlock}) {
    auto damaged = tree();
    overwrite(tree_file(), place);
    const auto file = LazyFile(open_regular_file(path_), content_.size(), std::move(damaged));
    EXPECT_EQ(as_text(file.bytes()), content_) << place;
    EXPECT_EQ(file.state(), 0) << place;
  }
}

TEST_F(LazyFileTest, MakesLeavesThatAreMissingAnewFromTheFile) {
  for (const auto size : {std::size_t{0}, kHashBlock - 1, kHashBlock + 32}) {
    auto cut_short = tree();
    std::filesystem::resize_file(tree_file(), size);
    const auto file = LazyFile(open_regular_file(path_), content_.size(), std::move(cut_short));
    EXPECT_EQ(as_text(file.bytes()), content_) << size;
    EXPECT_EQ(file.state(), 0) << size;
  }
}

TEST_F(LazyFileTest, MendsTheLeavesOnTheDisk) {
  auto damaged = tree();
  const auto right = text_of(tree_file());
  overwrite(tree_file(), 0);
  overwrite(tree_file(), kHashBlock);
  const auto file = LazyFile(open_regular_file(path_), content_.size(), std::move(damaged));
  EXPECT_EQ(at(file, 0), content_[0]);
  EXPECT_EQ(at(file, kOfHashBlock), content_[kOfHashBlock]);
  EXPECT_EQ(text_of(tree_file()), right);
}

TEST_F(LazyFileTest, BelievesNoLeavesThatFitAFalsifiedFile) {
  auto damaged = tree();
  auto leaves = format::verity_blocks(as_bytes(falsified(kPart)));
  overwrite(tree_file(), 0, as_text(std::as_bytes(std::span(leaves)).first(kHashBlock)));
  const auto file = LazyFile(open_regular_file(write("falsified", falsified(kPart))),
                             content_.size(), std::move(damaged));
  EXPECT_EQ(at(file, kPart), '\0');
  EXPECT_EQ(file.state(), 1);
}

TEST_F(LazyFileTest, LeavesThatCannotBeHadLeaveTheOthersAsTheyWere) {
  auto damaged = tree();
  overwrite(tree_file(), kHashBlock);
  const auto file = LazyFile(open_regular_file(write("falsified", falsified(kOfHashBlock))),
                             content_.size(), std::move(damaged));
  EXPECT_EQ(at(file, 0), content_[0]);
  EXPECT_EQ(at(file, kOfHashBlock), '\0');
  EXPECT_EQ(at(file, kPart), content_[kPart]);
}

TEST_F(LazyFileTest, WithoutLeavesShowsWhatIsRightOnceTheFileIsReplaced) {
  auto damaged = tree();
  overwrite(tree_file(), 0);
  auto file = LazyFile(open_regular_file(write("falsified", falsified(kPart))), content_.size(),
                       std::move(damaged));
  // The leaves of this part are made with those of the wrong one.
  EXPECT_EQ(at(file, 0), '\0');
  EXPECT_EQ(at(file, kOfHashBlock), content_[kOfHashBlock]);
  file.replace(open_regular_file(path_));
  EXPECT_EQ(as_text(file.bytes()), content_);
  EXPECT_EQ(file.state(), 2);
}

TEST_F(LazyFileTest, ThreadsSeeTheSame) {
  const auto file = open(path_);
  std::vector<std::thread> readers;
  readers.reserve(8);
  for (int i = 0; i < 8; ++i) {
    readers.emplace_back([&] { EXPECT_EQ(as_text(file.bytes()), content_); });
  }
  for (auto& reader : readers) reader.join();
  EXPECT_EQ(file.state(), 0);
}

/// A file larger than what may be in memory of it.
class LargeLazyFileTest : public LazyFileTest {
 protected:
  LargeLazyFileTest() : LazyFileTest(make_large_content(3 * LazyFile::kMostInMemory + 777)) {}

  /// Of the files in memory that this process has open.
  static std::uint64_t size_of_memory_files() {
    std::uint64_t sum = 0;
    for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
      std::error_code gone;
      const auto target = std::filesystem::read_symlink(entry, gone).native();
      if (target.starts_with("/memfd:puzzlefs")) sum += std::filesystem::file_size(entry, gone);
    }
    return sum;
  }

  static std::size_t in_memory(const LazyFile& file) {
    constexpr std::size_t kPage = 4096;
    std::vector<unsigned char> pages((file.bytes().size() + kPage - 1) / kPage);
    auto* const start = const_cast<std::byte*>(file.bytes().data());
    EXPECT_EQ(::mincore(start, file.bytes().size(), pages.data()), 0);
    return kPage * static_cast<std::size_t>(std::ranges::count_if(
                       pages, [](unsigned char page) { return (page & 1U) != 0; }));
  }
};

TEST_F(LargeLazyFileTest, IsInMemoryOnlyAsFarAsItMayBe) {
  const auto file = open(path_);
  EXPECT_EQ(in_memory(file), 0);
  for (int i = 0; i < 2; ++i) {
    std::size_t most = 0;
    for (std::size_t place = 0; place < content_.size(); place += kPart) {
      EXPECT_EQ(at(file, place), content_[place]);
      if (place % (kPart * 8) == 0) most = std::max(most, in_memory(file));
    }
    EXPECT_EQ(size_of_memory_files(), LazyFile::kMostInMemory);
    EXPECT_LE(most, LazyFile::kMostInMemory);
    EXPECT_GT(most, LazyFile::kMostInMemory - 9 * kPart);
  }
  EXPECT_EQ(file.state(), 0);
}

TEST_F(LargeLazyFileTest, KeepsAllThatItMay) {
  const auto file = open(path_);
  EXPECT_TRUE(as_text(file.bytes()).starts_with(content_.substr(0, LazyFile::kMostInMemory)));
  write("file", std::string(content_.size(), '#'));
  EXPECT_TRUE(as_text(file.bytes()).starts_with(content_.substr(0, LazyFile::kMostInMemory)));
  EXPECT_EQ(file.state(), 0);
  EXPECT_EQ(at(file, LazyFile::kMostInMemory), '\0');
  EXPECT_EQ(file.state(), 1);
}

TEST_F(LargeLazyFileTest, WhatIsReadAgainIsVerifiedAgain) {
  auto file = open(path_);
  EXPECT_TRUE(as_text(file.bytes()) == content_);
  overwrite(path_, 0, "##");
  overwrite(path_, content_.size() - 1);
  EXPECT_EQ(at(file, content_.size() - 1), content_.back()) << "still in memory";
  EXPECT_EQ(file.state(), 0);
  EXPECT_EQ(at(file, 0), '\0');
  EXPECT_EQ(file.state(), 1);
  file.replace(open_regular_file(write("right", content_)));
  EXPECT_TRUE(as_text(file.bytes()) == content_);
  EXPECT_EQ(file.state(), 2);
}

TEST_F(LargeLazyFileTest, ThreadsSeeTheSameWhileItComesAndGoes) {
  const auto file = open(path_);
  std::vector<std::thread> readers;
  for (std::size_t reader = 0; reader < 4; ++reader) {
    readers.emplace_back([&, reader] {
      const std::string_view expected = content_;
      for (std::size_t i = 0; i < content_.size(); i += kPart) {
        const auto place = (i + reader * content_.size() / 4) % content_.size() / kPart * kPart;
        // Others have put many parts there since the one before this was read.
        for (const auto part : {place, place < kPart ? place : place - kPart}) {
          EXPECT_TRUE(as_text(file.bytes()).substr(part, kPart) == expected.substr(part, kPart));
        }
      }
    });
  }
  for (auto& reader : readers) reader.join();
  EXPECT_EQ(file.state(), 0);
}

TEST_F(LargeLazyFileTest, WhatWasWrongStaysKnownWhenItIsReadAgain) {
  const auto file = open(write("falsified", falsified(0)));
  EXPECT_EQ(at(file, 0), '\0');
  overwrite(temp_ / "falsified", 0, content_.substr(0, 1));
  EXPECT_TRUE(as_text(file.bytes()).substr(kPart) == std::string_view(content_).substr(kPart));
  EXPECT_EQ(at(file, 0), content_[0]);
  EXPECT_EQ(file.state(), 1) << "zeros were seen";
}

/// One whose parts are larger than usual, of more leaves than are kept.
class HugeLazyFileTest : public LazyFileTest {
 protected:
  HugeLazyFileTest() : LazyFileTest(make_large_content((std::size_t{260} << 19) + 777)) {}
};

TEST_F(HugeLazyFileTest, ShowsTheBytesOfItsFile) {
  const auto file = open(path_);
  for (int i = 0; i < 2; ++i) {
    for (std::size_t place = 0; place < content_.size(); place += 1 << 19) {
      EXPECT_EQ(at(file, place), content_[place]);
      EXPECT_EQ(at(file, place + 700), 'x');
    }
  }
  EXPECT_EQ(at(file, content_.size() - 1), 'x');
  EXPECT_EQ(file.state(), 0);
  EXPECT_TRUE(as_text(file.bytes()) == content_);
}

TEST_F(LazyFileTest, RefusesATreeOfAnotherSize) {
  EXPECT_THROW(LazyFile(open_regular_file(path_), content_.size() + kOfHashBlock, tree()),
               CorruptError);
  EXPECT_THROW(LazyFile(open_regular_file(path_), 0, VerityTree({}, {})), CorruptError);
}

}  // namespace
}  // namespace puzzlefs::fetch
