// How sizes, counts and progress look.
#include "puzzlefs/terminal.h"

#include <gtest/gtest.h>

#include <sstream>

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

TEST(Progress, IsSilentWhereThereIsNoTerminal) {
  std::ostringstream out;
  std::ostringstream err;
  Terminal terminal(out, err);
  Progress(terminal, "Pushing").update(10, 20);
  EXPECT_EQ(err.str() + out.str(), "");
}

TEST(Progress, DrawsOneLineAndRemovesIt) {
  std::ostringstream out;
  std::ostringstream err;
  Terminal terminal(out, err);
  terminal.shows_progress = true;
  {
    Progress progress(terminal, "Pushing");
    progress.update(1 << 20, 2 << 20, "1 of 2 blobs");
  }
  const std::string text = err.str();
  EXPECT_NE(text.find("Pushing: 1.0 MiB of 2.0 MiB, "), std::string::npos);
  EXPECT_NE(text.find(", 1 of 2 blobs"), std::string::npos);
  EXPECT_EQ(text.find('\n'), std::string::npos);
  EXPECT_TRUE(text.ends_with("\r\x1b[K"));
  EXPECT_EQ(out.str(), "");
}

}  // namespace
}  // namespace puzzlefs::tools
