#include "fetch/lazy_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include "../support/temp_dir.h"
#include "format/error.h"
#include "format/verity.h"

namespace puzzlefs::fetch {
namespace {

constexpr std::size_t kPart = 64 << 10;

class LazyFileTest : public ::testing::Test {
 protected:
  static std::string make_content() {
    std::string content;
    while (content.size() < 5 * kPart + 777) content += std::to_string(content.size()) + " ";
    return content;
  }
  std::filesystem::path write(const std::string& name, std::string_view content) const {
    auto path = temp_ / name;
    std::ofstream(path, std::ios::binary) << content;
    return path;
  }
  LazyFile open(const std::filesystem::path& path) const {
    return {open_regular_file(path), content_.size(), format::verity_blocks(as_bytes(content_))};
  }
  /// With another byte there.
  std::string falsified(std::size_t place) const {
    auto content = content_;
    content[place] = '#';
    return content;
  }

  test::TempDir temp_;
  const std::string content_ = make_content();
  const std::filesystem::path path_ = write("file", content_);
};

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

TEST_F(LazyFileTest, RefusesATreeOfAnotherSize) {
  const auto blocks = format::verity_blocks(as_bytes(content_));
  EXPECT_THROW(LazyFile(open_regular_file(path_), content_.size() + 4096, blocks), CorruptError);
  EXPECT_THROW(LazyFile(open_regular_file(path_), 0, {}), CorruptError);
}

}  // namespace
}  // namespace puzzlefs::fetch
