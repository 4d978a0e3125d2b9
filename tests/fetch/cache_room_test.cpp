// A cache that is full: what goes, what stays, and who counts.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>
#include <thread>

#include "../support/temp_dir.h"
#include "fetch/cache.h"
#include "format/oci.h"

namespace puzzlefs::fetch {
namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t kBlobSize = 64 << 10;
constexpr std::uint64_t kLimit = 64 * kBlobSize;
/// What is just being written may escape whoever counts: one blob here.
constexpr std::uint64_t kMost = kLimit + kBlobSize;

Bytes make_blob(int number) {
  Bytes blob(kBlobSize);
  for (std::size_t i = 0; i + sizeof number < blob.size(); i += 1000) {
    std::memcpy(blob.data() + i, &number, sizeof number);
  }
  return blob;
}

format::Digest digest_of(int number) {
  return format::sha256(make_blob(number));
}

class CacheRoomTest : public ::testing::Test {
 protected:
  static CacheLimits limits() { return {.size = kLimit, .reserve = 0}; }

  void write(Cache& cache, int number) { cache.write(digest_of(number), make_blob(number)); }
  void write(Cache& cache, int first, int last) {
    for (int i = first; i < last; ++i) write(cache, i);
  }
  fs::path file_of(int number) const {
    const auto hex = digest_of(number).hex();
    return directory_ / "blobs/sha256" / hex.substr(0, 2) / hex;
  }
  /// As if the blob had last been used so long ago.
  void age(int number, std::chrono::seconds age) {
    fs::last_write_time(file_of(number), fs::file_time_type::clock::now() - age);
  }
  /// What the files of the blobs take up.
  std::uint64_t bytes_on_disk() const {
    std::uint64_t bytes = 0;
    for (const auto& blob : list_blobs(directory_)) bytes += disk_size(blob.size);
    return bytes;
  }
  /// An eviction runs beside what started it.
  template <class Condition>
  static bool comes_true(const Condition& condition, int tries = 500) {
    for (int i = 0; i < tries; ++i) {
      if (condition()) return true;
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    return false;
  }

  test::TempDir temp_;
  const fs::path directory_ = temp_ / "cache";
};

TEST_F(CacheRoomTest, NeverHoldsMoreThanItMay) {
  Cache cache(directory_, limits());
  for (int i = 0; i < 500; ++i) {
    write(cache, i);
    ASSERT_LE(bytes_on_disk(), kMost);
  }
  EXPECT_GT(bytes_on_disk(), kLimit / 2);
}

TEST_F(CacheRoomTest, WhatFitsIsWhatNothingGoesFor) {
  Cache cache(directory_, limits());
  EXPECT_TRUE(cache.fits(kLimit / 2));
  EXPECT_FALSE(cache.fits(kLimit));
  write(cache, 0, 40);
  EXPECT_TRUE(cache.fits(10 * kBlobSize));
  EXPECT_FALSE(cache.fits(kLimit / 2));
}

TEST_F(CacheRoomTest, ADiskThatIsFullHasRoomForNothing) {
  Cache cache(directory_, {.size = kLimit, .reserve = std::uint64_t{1} << 60});
  EXPECT_FALSE(cache.fits(1));
}

TEST_F(CacheRoomTest, TheLeastRecentlyUsedGoFirst) {
  Cache cache(directory_, limits());
  write(cache, 0, 40);
  for (int i = 0; i < 40; ++i) age(i, std::chrono::hours(100 - i));
  EXPECT_TRUE(cache.read(digest_of(0)));  // used now
  const auto left = cache.shrink(20 * kBlobSize);
  EXPECT_EQ(left.removed, 20U);
  EXPECT_EQ(left.bytes, 20 * kBlobSize);
  EXPECT_TRUE(cache.has(digest_of(0)));
  EXPECT_FALSE(cache.has(digest_of(1)));
  EXPECT_FALSE(cache.has(digest_of(20)));
  EXPECT_TRUE(cache.has(digest_of(21)));
}

TEST_F(CacheRoomTest, ATimeInTheFutureIsNoReasonToStayForEver) {
  Cache cache(directory_, limits());
  write(cache, 0, 2);
  age(0, -std::chrono::hours(1000));
  EXPECT_TRUE(cache.read(digest_of(0)));
  EXPECT_LT(fs::last_write_time(file_of(0)),
            fs::file_time_type::clock::now() + std::chrono::hours(1));
}

TEST_F(CacheRoomTest, WhatSeemsToComeFromTheFutureGoesFirst) {
  Cache cache(directory_, limits());
  write(cache, 0, 4);
  age(0, std::chrono::hours(100));
  age(1, -std::chrono::hours(24 * 365 * 50));
  age(2, -std::chrono::hours(24 * 365 * 40));
  cache.shrink(2 * kBlobSize);
  EXPECT_TRUE(cache.has(digest_of(0)));
  EXPECT_TRUE(cache.has(digest_of(3)));
}

TEST_F(CacheRoomTest, WhatIsNoFileInPlaceOfTheCountGoes) {
  Cache cache(directory_, limits());
  write(cache, 0, 2);
  fs::remove(directory_ / "usage");
  fs::create_directory(directory_ / "usage");
  write(cache, 2, 4);
  EXPECT_TRUE(cache.has(digest_of(3)));
}

TEST_F(CacheRoomTest, PinnedImagesStay) {
  Cache cache(directory_, limits());
  write(cache, 0, 40);
  format::Manifest manifest;
  manifest.config = format::empty_config();
  for (const int number : {3, 5}) {
    format::Descriptor layer;
    layer.media_type = format::kFiledataType;
    layer.digest = digest_of(number);
    layer.size = kBlobSize;
    manifest.layers.push_back(layer);
  }
  const auto document = format::to_json_text(manifest);
  const auto digest = format::sha256(as_bytes(document));
  cache.write(digest, as_bytes(document));
  cache.pins().add({"registry.example/app:1", digest, digest});
  for (int i = 0; i < 40; ++i) age(i, std::chrono::hours(100 - i));

  EXPECT_EQ(cache.shrink(0).blobs, 3U);
  EXPECT_TRUE(cache.has(digest_of(3)));
  EXPECT_TRUE(cache.has(digest_of(5)));
  EXPECT_TRUE(cache.has(digest));

  EXPECT_TRUE(cache.pins().remove("registry.example/app:1"));
  EXPECT_FALSE(cache.pins().remove("registry.example/app:1"));
  EXPECT_EQ(cache.shrink(0).blobs, 0U);
}

TEST_F(CacheRoomTest, IndexesThatLeadToAPinnedImageStay) {
  Cache cache(directory_, limits());
  const auto write_index = [&cache](const format::Digest& entry, std::string_view type) {
    const auto document = R"({"schemaVersion":2,"manifests":[{"mediaType":")" + std::string(type) +
                          R"(","size":9,"digest":")" + entry.to_string() + R"("}]})";
    const auto digest = format::sha256(as_bytes(document));
    cache.write(digest, as_bytes(document));
    return digest;
  };
  const auto manifest = digest_of(1);
  const auto inner = write_index(manifest, format::kManifestType);
  const auto outer = write_index(inner, format::kIndexType);
  cache.pins().add({"registry.example/app:1", outer, manifest});
  cache.shrink(0);
  EXPECT_TRUE(cache.has(outer));
  EXPECT_TRUE(cache.has(inner));
}

TEST_F(CacheRoomTest, TellsWhatItHasFreed) {
  Cache cache(directory_, limits());
  write(cache, 0, 10);
  const auto left = cache.shrink(4 * kBlobSize);
  EXPECT_EQ(left.removed, 6U);
  EXPECT_EQ(left.freed, 6 * kBlobSize);
}

TEST_F(CacheRoomTest, BrokenPinsArePassedOver) {
  Cache cache(directory_, limits());
  cache.pins().add({"a name", digest_of(0), digest_of(1)});
  std::ofstream(directory_ / "pins/junk.json") << "{}";
  std::ofstream(directory_ / "pins/other.json") << R"({"name": 1, "named": "x"})";
  const auto pins = cache.pins().list();
  ASSERT_EQ(pins.size(), 1U);
  EXPECT_EQ(pins.at(0).name, "a name");
  EXPECT_EQ(pins.at(0).manifest, digest_of(1));
}

TEST_F(CacheRoomTest, ADiskThatIsNearlyFullIsLeftSomething) {
  Cache cache(directory_, {.size = kLimit, .reserve = std::uint64_t{1} << 60});
  write(cache, 0, 10);
  EXPECT_EQ(bytes_on_disk(), 0U);
}

TEST_F(CacheRoomTest, ADiskThatIsNearlyFullDoesNotEmptyTheCache) {
  {
    Cache cache(directory_, limits());
    write(cache, 0, 40);
  }
  fs::remove(directory_ / "usage");  // as after a boot
  struct statvfs disk {};
  ASSERT_EQ(::statvfs(directory_.c_str(), &disk), 0);
  const auto free = std::uint64_t{disk.f_bavail} * disk.f_frsize;
  // Others change how much is free meanwhile: far from enough either way.
  Cache cache(directory_, {.size = kLimit, .reserve = free + (std::uint64_t{1} << 30)});
  write(cache, 40);
  EXPECT_TRUE(comes_true([&] { return bytes_on_disk() < 40 * kBlobSize; }));
  EXPECT_FALSE(comes_true([&] { return bytes_on_disk() < 30 * kBlobSize; }, 50));
}

TEST_F(CacheRoomTest, AnotherProgramsFilesCount) {
  {
    Cache cache(directory_, limits());
    write(cache, 0, 60);
  }
  Cache cache(directory_, limits());
  write(cache, 60, 70);
  EXPECT_LE(bytes_on_disk(), kMost);
}

TEST_F(CacheRoomTest, AProgramThatIsKilledLeavesACountThatIsRight) {
  const auto child = fork();
  if (child == 0) {
    Cache cache(directory_, limits());
    for (int i = 0; i < 30; ++i) cache.write(digest_of(i), make_blob(i));
    ::kill(::getpid(), SIGKILL);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  ASSERT_TRUE(WIFSIGNALED(status));
  Cache cache(directory_, limits());
  for (int i = 30; i < 300; ++i) {
    write(cache, i);
    ASSERT_LE(bytes_on_disk(), kMost);
  }
}

TEST_F(CacheRoomTest, OfANewCacheTheCountIsKnown) {
  {
    Cache cache(directory_, limits());
    EXPECT_EQ(CacheUsage(directory_ / "usage").get(), 0U);
    write(cache, 0, 3);
    EXPECT_EQ(CacheUsage(directory_ / "usage").get(), 3 * kBlobSize);
  }
  // A part that is gone does not make it new.
  for (const auto* gone : {"blobs", "tmp"}) {
    fs::remove_all(directory_ / gone);
    const Cache cache(directory_, limits());
    EXPECT_EQ(CacheUsage(directory_ / "usage").get(), 3 * kBlobSize) << gone;
  }
}

TEST_F(CacheRoomTest, OfACacheThatSeveralMakeNothingIsForgotten) {
  std::vector<std::thread> programs;
  for (int program = 0; program < 4; ++program) {
    programs.emplace_back([&, program] {
      Cache cache(directory_, limits());
      write(cache, 5 * program, 5 * program + 5);
    });
  }
  for (auto& program : programs) program.join();
  EXPECT_EQ(bytes_on_disk(), 20 * kBlobSize);
  EXPECT_GE(CacheUsage(directory_ / "usage").get().value_or(0), 20 * kBlobSize);
}

TEST_F(CacheRoomTest, ACountThatIsLostIsMadeAgain) {
  Cache cache(directory_, limits());
  CacheUsage usage(directory_ / "usage");
  for (int i = 0; i < 2; ++i) {
    std::ofstream(directory_ / "usage") << "nonsense";
    EXPECT_EQ(usage.get(), std::nullopt);
    write(cache, 10 * i);
    EXPECT_TRUE(comes_true([&] { return usage.get().has_value(); }));
    write(cache, 10 * i + 1, 10 * i + 10);  // while somebody counts they could count twice
    EXPECT_EQ(cache.info().contents.bytes, bytes_on_disk());
    EXPECT_EQ(usage.get(), bytes_on_disk());
  }
}

TEST_F(CacheRoomTest, ACountOfBeforeTheLastBootIsUnknown) {
  fs::create_directory(directory_);
  CacheUsage usage(directory_ / "usage");
  usage.set(1000, usage.mark());
  EXPECT_EQ(usage.get(), 1000U);
  EXPECT_EQ(usage.add(24), 1024U);
  std::fstream file(directory_ / "usage", std::ios::in | std::ios::out);
  file.seekp(8);  // the boot's number
  file << "00000000-0000-0000-0000-000000000000";
  file.close();
  EXPECT_EQ(usage.get(), std::nullopt);
}

TEST_F(CacheRoomTest, WhatIsAddedWhileSomebodyCountsIsNotLost) {
  fs::create_directory(directory_);
  CacheUsage usage(directory_ / "usage");
  usage.add(5);
  const auto mark = usage.mark();
  usage.add(7);
  usage.set(100, mark);
  EXPECT_EQ(usage.get(), 107U);
}

TEST_F(CacheRoomTest, QuarantineGoesBeforeBlobs) {
  Cache cache(directory_, limits());
  write(cache, 0, 10);
  fs::copy_file(file_of(1), directory_ / "quarantine/bad");
  const auto left = cache.shrink(10 * kBlobSize);
  EXPECT_EQ(left.blobs, 10U);
  EXPECT_EQ(left.quarantined, 0U);
  EXPECT_FALSE(fs::exists(directory_ / "quarantine/bad"));
}

TEST_F(CacheRoomTest, AScrubFindsWhatHasChanged) {
  Cache cache(directory_, limits());
  write(cache, 0, 10);
  std::ofstream(file_of(4), std::ios::in | std::ios::binary) << "x";
  age(5, std::chrono::hours(1));
  const auto used = fs::last_write_time(file_of(5));
  int good = 0;
  int bad = 0;
  cache.scrub([&](CacheItem, std::uint64_t, bool is_good) { ++(is_good ? good : bad); });
  EXPECT_EQ(good, 9);
  EXPECT_EQ(bad, 1);
  EXPECT_EQ(fs::last_write_time(file_of(5)), used);  // it was checked, not used
  EXPECT_FALSE(cache.has(digest_of(4)));
}

}  // namespace
}  // namespace puzzlefs::fetch
