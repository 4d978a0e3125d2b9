// How sizes, counts and progress look.
#include "puzzlefs/terminal.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <sstream>
#include <thread>

#include "puzzlefs/progress.h"

namespace puzzlefs::tools {
namespace {

TEST(HumanSize, UsesTheLargestFittingUnit) {
  EXPECT_EQ(human_size(0), "0 B");
  EXPECT_EQ(human_size(1023), "1023 B");
  EXPECT_EQ(human_size(1024), "1.0 KiB");
  EXPECT_EQ(human_size(5 << 20), "5.0 MiB");
  EXPECT_EQ(human_size(~std::uint64_t{0}), "16.0 EiB");
}

TEST(Harmless, ReplacesControlCharactersOnly) {
  EXPECT_EQ(harmless("a\x1b[31m\nb\x7f"), "a?[31m?b?");
  EXPECT_EQ(harmless("a\xc2\x9b[31mb\xc2\x80\xc2"), "a?[31mb?\xc2");
  EXPECT_EQ(harmless("ünï"), "ünï");
  EXPECT_EQ(harmless("\xc2\xa0\xc2\xbf"), "\xc2\xa0\xc2\xbf");
}

TEST(Counted, AgreesInNumber) {
  EXPECT_EQ(counted(0, "blob"), "0 blobs");
  EXPECT_EQ(counted(1, "blob"), "1 blob");
  EXPECT_EQ(counted(2, "blob"), "2 blobs");
}

class ProgressTest : public testing::Test {
 protected:
  std::size_t lines() const {
    const auto text = err_.str();
    return static_cast<std::size_t>(std::count(text.begin(), text.end(), '\n'));
  }

  std::ostringstream out_;
  std::ostringstream err_;
  Terminal terminal_{out_, err_};
};

TEST_F(ProgressTest, IsSilentWhereThereIsNoTerminal) {
  Progress(terminal_, "Pushing").update({.bytes = 10, .total = 20});
  EXPECT_EQ(err_.str() + out_.str(), "");
}

TEST_F(ProgressTest, DrawsOneLineAndRemovesIt) {
  terminal_.shows_progress = true;
  {
    Progress progress(terminal_, "Pushing");
    progress.update({.bytes = 1 << 20, .total = 2 << 20, .note = "1 of 2 blobs"});
  }
  const std::string text = err_.str();
  EXPECT_NE(text.find("Pushing: 1.0 MiB of 2.0 MiB, 1 of 2 blobs"), std::string::npos) << text;
  EXPECT_EQ(lines(), 0U);
  EXPECT_TRUE(text.ends_with("\r\x1b[K"));
  EXPECT_EQ(out_.str(), "");
}

TEST_F(ProgressTest, PlainEndsWithALineThatSaysAll) {
  terminal_.shows_progress = true;
  {
    Progress progress(terminal_, "Pulling", ProgressMode::kPlain);
    for (const std::uint64_t bytes : {1, 2, 3}) progress.update({.bytes = bytes, .total = 3});
  }
  EXPECT_TRUE(err_.str().ends_with("Pulling: 3 B of 3 B\n")) << err_.str();
  EXPECT_EQ(err_.str().find('\r'), std::string::npos);
}

TEST_F(ProgressTest, NoneIsSilentOnATerminalToo) {
  terminal_.shows_progress = true;
  Progress(terminal_, "Pushing", ProgressMode::kNone).update({.bytes = 10});
  EXPECT_EQ(err_.str(), "");
}

TEST_F(ProgressTest, TheRateIsThatOfWhatMoved) {
  {
    Progress progress(terminal_, "Pushing", ProgressMode::kPlain);
    std::this_thread::sleep_for(std::chrono::milliseconds(60));
    progress.update({.bytes = 10, .moved = 0});
  }
  EXPECT_EQ(err_.str(), "Pushing: 10 B\n");
  {
    Progress progress(terminal_, "Pushing", ProgressMode::kPlain);
    std::this_thread::sleep_for(std::chrono::milliseconds(60));
    progress.update({.bytes = 1 << 30, .moved = 1024});
  }
  EXPECT_NE(err_.str().find("Pushing: 1.0 GiB, "), std::string::npos);
  EXPECT_EQ(err_.str().find("GiB/s"), std::string::npos) << err_.str();
  EXPECT_NE(err_.str().find("B/s"), std::string::npos) << err_.str();
}

TEST_F(ProgressTest, AMessageTakesThePlaceOfTheLine) {
  terminal_.shows_progress = true;
  Progress progress(terminal_, "Pushing");
  progress.update({.bytes = 1});
  write_past_progress_line([&] { err_ << "message\n"; });
  write_past_progress_line([&] { err_ << "another\n"; });
  EXPECT_EQ(err_.str(), "\r\x1b[KPushing: 1 B\r\x1b[Kmessage\nanother\n");
}

}  // namespace
}  // namespace puzzlefs::tools
