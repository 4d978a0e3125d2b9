#include "format/trace.h"

#include <gtest/gtest.h>

#include <string>

#include "format/error.h"

namespace puzzlefs::format {
namespace {

std::string error_of(const std::string& text) {
  try {
    parse_trace(as_bytes(text), "start.trace");
  } catch (const CorruptError& error) {
    return error.what();
  }
  return "no error";
}

TEST(Trace, HasOneDigestALineInTheOrderOfFirstUse) {
  const Trace trace{{sha256(as_bytes("b")), sha256(as_bytes("a"))}};
  const std::string text = to_text(trace);
  EXPECT_EQ(text, "puzzlefs-trace 1\n" + sha256(as_bytes("b")).to_string() + "\n" +
                      sha256(as_bytes("a")).to_string() + "\n");
  EXPECT_EQ(parse_trace(as_bytes(text), "start.trace"), trace);
}

TEST(Trace, MayBeEmptyAndLackTheLastEndOfLine) {
  EXPECT_TRUE(parse_trace(as_bytes("puzzlefs-trace 1\n"), "t").chunks.empty());
  EXPECT_TRUE(parse_trace(as_bytes("puzzlefs-trace 1"), "t").chunks.empty());
  const std::string text = "puzzlefs-trace 1\n" + sha256(as_bytes("a")).to_string();
  EXPECT_EQ(parse_trace(as_bytes(text), "t").chunks.size(), 1);
}

TEST(Trace, NamesFileAndLineOfWhatIsMalformed) {
  const std::string good = "puzzlefs-trace 1\n" + sha256(as_bytes("a")).to_string() + "\n";
  EXPECT_TRUE(error_of("").starts_with("start.trace, line 1: not a trace"));
  EXPECT_TRUE(error_of("sha256:").starts_with("start.trace, line 1: not a trace"));
  EXPECT_TRUE(error_of(std::string("\0\xff\n", 3)).starts_with("start.trace, line 1: not a trace"));
  EXPECT_TRUE(error_of("puzzlefs-trace 2\n").starts_with("start.trace, line 1: a trace of a ver"));
  EXPECT_TRUE(error_of(good + "\n").starts_with("start.trace, line 3: not the digest"));
  EXPECT_TRUE(error_of(good + "sha256:00\n").starts_with("start.trace, line 3: not the digest"));
  EXPECT_TRUE(error_of(good + good).starts_with("start.trace, line 3: not the digest"));
}

}  // namespace
}  // namespace puzzlefs::format
