// The figures of a mount as text.
#include "fs/mount_stats.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>

#include "format/error.h"

namespace puzzlefs::fs {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;

MountStats some_stats() {
  return {.image = "registry.example/a:b@sha256:00",
          .counts = {.requests = 1,
                     .bytes_fetched = 2,
                     .bytes_fetched_to_open = 3,
                     .bytes_needed = 4,
                     .chunks_from_memory = 5,
                     .chunks_from_disk = 6,
                     .chunks_from_network = 7,
                     .chunks_failed = 8,
                     .time_waited = 9500ms}};
}

TEST(MountStatsTest, ComesBackFromJson) {
  const auto stats = parse_mount_stats(to_json(some_stats()));
  EXPECT_EQ(stats.image, some_stats().image);
  EXPECT_EQ(stats.counts, some_stats().counts);
}

TEST(MountStatsTest, OtherJsonIsCorrupt) {
  for (const auto* text : {"", "[]", "{\"image\": 1}", "{\"image\": \"x\"}"}) {
    EXPECT_THROW(parse_mount_stats(text), CorruptError) << text;
  }
}

TEST(MountStatsTest, HitsAreAllReadsButThoseFromTheNetwork) {
  EXPECT_DOUBLE_EQ(some_stats().hit_rate(), 11.0 / 18);
  EXPECT_DOUBLE_EQ(MountStats().hit_rate(), 1);
}

TEST(MountStatsTest, PrometheusGetsOneHeadForEachMetric) {
  const auto text = to_prometheus(some_stats());
  EXPECT_THAT(
      text,
      HasSubstr(
          R"(# HELP puzzlefs_chunk_reads_total Chunks that readers asked for, by where they were.
# TYPE puzzlefs_chunk_reads_total counter
puzzlefs_chunk_reads_total{image="registry.example/a:b@sha256:00",source="memory"} 5
puzzlefs_chunk_reads_total{image="registry.example/a:b@sha256:00",source="disk"} 6
puzzlefs_chunk_reads_total{image="registry.example/a:b@sha256:00",source="network"} 7
# HELP )"));
  EXPECT_THAT(text, HasSubstr("puzzlefs_wait_seconds_total{image=\"registry.example/a:b@"
                              "sha256:00\"} 9.5\n"));
}

TEST(MountStatsTest, AnImageCannotEndItsLabel) {
  auto stats = some_stats();
  stats.image = "a\"b\\c\nd";
  EXPECT_THAT(to_prometheus(stats), HasSubstr(R"(puzzlefs_requests_total{image="a\"b\\c\nd"} 1)"));
}

}  // namespace
}  // namespace puzzlefs::fs
