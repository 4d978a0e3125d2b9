#include "format/rfc3339.h"

#include <gtest/gtest.h>

namespace puzzlefs::format {
namespace {

using std::chrono::nanoseconds;
using std::chrono::seconds;

constexpr seconds kSome{1'764'078'280};  // 2025-11-25 13:44:40 UTC

TEST(Rfc3339, IsRead) {
  EXPECT_EQ(parse_time("1970-01-01T00:00:00Z"), Time());
  EXPECT_EQ(parse_time("2025-11-25T13:44:40Z"), Time(kSome));
  EXPECT_EQ(parse_time("2025-11-25t13:44:40z"), Time(kSome));
  EXPECT_EQ(parse_time("2025-11-25T13:44:40.5Z"), Time(kSome + std::chrono::milliseconds(500)));
  EXPECT_EQ(parse_time("2025-11-25T13:44:40.1234567899Z"), Time(kSome + nanoseconds(123456789)));
  EXPECT_EQ(parse_time("2025-11-25T14:44:40+01:00"), Time(kSome));
  EXPECT_EQ(parse_time("2025-11-25T08:14:40-05:30"), Time(kSome));
  EXPECT_EQ(parse_time("2024-02-29T00:00:00Z"), Time(seconds(1'709'164'800)));
}

TEST(Rfc3339, IsReadAsItIsWritten) {
  const Time time(kSome + nanoseconds(42));
  EXPECT_EQ(to_text(time), "2025-11-25T13:44:40.000000042Z");
  EXPECT_EQ(parse_time(to_text(time)), time);
}

TEST(Rfc3339, NothingElseIsATime) {
  for (const auto* text :
       {"", "2025", "2025-11-25", "2025-11-25T13:44:40", "2025-11-25T13:44Z",
        "1969-12-31T23:59:59Z", "9999-01-01T00:00:00Z", "2025-02-29T00:00:00Z",
        "2025-13-01T00:00:00Z", "2025-11-25T24:00:00Z", "2025-11-25T13:44:40.Z",
        "2025-11-25T13:44:40+01", "-025-11-25T13:44:40Z", "2025-11-25T13:44:40Zx",
        "2025-11-25T+3:44:40Z", "2025-11-25T13:44:40.99999999999999999999"}) {
    EXPECT_EQ(parse_time(text), std::nullopt) << text;
  }
}

}  // namespace
}  // namespace puzzlefs::format
