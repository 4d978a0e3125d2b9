#include "fetch/cache.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <spdlog/fmt/fmt.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <thread>

#include "../support/temp_dir.h"
#include "fetch/cache_index.h"

namespace puzzlefs::fetch {
namespace {

namespace fs = std::filesystem;
using ::testing::Optional;

void write_text(const fs::path& path, std::string_view text) {
  std::ofstream(path, std::ios::binary) << text;
}

std::string text(const std::optional<Bytes>& bytes) {
  return bytes ? std::string(as_text(*bytes)) : "(absent)";
}

std::ptrdiff_t entries(const fs::path& directory) {
  return std::distance(fs::directory_iterator(directory), {});
}

class CacheTest : public ::testing::Test {
 protected:
  fs::path blob_file() const {
    return directory_ / "blobs/sha256" / digest_.hex().substr(0, 2) / digest_.hex();
  }

  test::TempDir temp_;
  const fs::path directory_ = temp_ / "home/cache";
  const format::Digest digest_ = format::sha256(as_bytes("content"));
};

TEST_F(CacheTest, IsMadeForItsOwnerOnly) {
  const Cache cache(directory_);
  struct stat status {};
  ASSERT_EQ(stat(directory_.c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 07777, 0700U);
}

TEST_F(CacheTest, ReadsWhatWasWritten) {
  Cache cache(directory_);
  EXPECT_EQ(text(cache.read(digest_)), "(absent)");
  cache.write(digest_, as_bytes("content"));
  EXPECT_EQ(text(cache.read(digest_)), "content");
  EXPECT_EQ(as_text(cache.map(digest_).value().bytes()), "content");
  EXPECT_EQ(entries(directory_ / "tmp"), 0);
}

TEST_F(CacheTest, KeepsBlobsForTheNextProgram) {
  Cache(directory_).write(digest_, as_bytes("content"));
  EXPECT_EQ(text(Cache(directory_).read(digest_)), "content");
}

TEST_F(CacheTest, QuarantinesAFalsifiedBlob) {
  Cache cache(directory_);
  cache.write(digest_, as_bytes("content"));
  write_text(blob_file(), "Content");
  EXPECT_EQ(text(cache.read(digest_)), "(absent)");
  EXPECT_FALSE(fs::exists(blob_file()));
  EXPECT_TRUE(fs::exists(directory_ / "quarantine" / digest_.hex()));
}

TEST_F(CacheTest, QuarantinesATruncatedBlobWhenMapping) {
  Cache cache(directory_);
  cache.write(digest_, as_bytes("content"));
  fs::resize_file(blob_file(), 3);
  EXPECT_FALSE(cache.map(digest_));
  EXPECT_TRUE(fs::exists(directory_ / "quarantine" / digest_.hex()));
}

TEST_F(CacheTest, TakesABlobAgainAfterItsQuarantine) {
  Cache cache(directory_);
  cache.write(digest_, as_bytes("content"));
  write_text(blob_file(), "Content");
  cache.read(digest_);
  cache.write(digest_, as_bytes("content"));
  EXPECT_EQ(text(cache.read(digest_)), "content");
}

TEST_F(CacheTest, RecallsTheLastManifestOfAName) {
  const auto newer = format::sha256(as_bytes("newer"));
  {
    Cache cache(directory_);
    EXPECT_EQ(cache.recall("host/repo:tag"), std::nullopt);
    cache.remember("host/repo:tag", digest_);
    cache.remember("host/repo:tag", newer);
  }
  EXPECT_EQ(Cache(directory_).recall("host/repo:tag"), newer);
}

TEST_F(CacheTest, ANameTooLongForTheIndexIsNotRemembered) {
  Cache cache(directory_);
  cache.remember(std::string(1000, 'n'), digest_);
  EXPECT_EQ(cache.recall(std::string(1000, 'n')), std::nullopt);
}

TEST_F(CacheTest, ALostIndexIsMadeAnew) {
  Cache(directory_).remember("name", digest_);
  fs::remove_all(directory_ / "index");
  Cache cache(directory_);
  EXPECT_EQ(cache.recall("name"), std::nullopt);
  cache.remember("name", digest_);
  EXPECT_EQ(cache.recall("name"), digest_);
}

TEST_F(CacheTest, AFalsifiedIndexIsMadeAnew) {
  Cache(directory_).remember("name", digest_);
  write_text(directory_ / "index/data.mdb", std::string(100'000, 'x'));
  Cache cache(directory_);
  EXPECT_EQ(cache.recall("name"), std::nullopt);
  cache.remember("name", digest_);
  EXPECT_EQ(cache.recall("name"), digest_);
}

TEST_F(CacheTest, ATruncatedIndexIsMadeAnew) {
  Cache(directory_).remember("name", digest_);
  fs::resize_file(directory_ / "index/data.mdb", 2 * 4096);  // as far as LMDB looks when it opens
  Cache cache(directory_);
  EXPECT_EQ(cache.recall("name"), std::nullopt);
  cache.remember("name", digest_);
  EXPECT_EQ(cache.recall("name"), digest_);
}

// LMDB would end the program on such a page, at every start.
TEST_F(CacheTest, AnIndexWithPagesOfGarbageIsMadeAnew) {
  {
    Cache cache(directory_);
    for (int i = 0; i < 100; ++i) cache.remember(fmt::format("host/name{}", i), digest_);
  }
  const auto data = directory_ / "index/data.mdb";
  const auto size = fs::file_size(data);
  for (std::uint64_t page = 2; page < size / 4096; ++page) {
    for (const char garbage : {'\0', '\x7f', '\xff'}) {
      std::fstream file(data, std::ios::in | std::ios::out | std::ios::binary);
      file.seekp(static_cast<std::streamoff>(page * 4096));
      file << std::string(4096, garbage);
      file.close();
      Cache cache(directory_);
      cache.remember("host/new", digest_);
      EXPECT_THAT(cache.recall("host/new"), Optional(digest_));
    }
  }
}

TEST_F(CacheTest, AnIndexThatIsCutShortWhileItIsUsedIsPassedOver) {
  for (const auto* name : {"data.mdb", "lock.mdb"}) {
    {
      Cache cache(directory_);
      cache.remember("host/name", digest_);
      fs::resize_file(directory_ / "index" / name, 0);
      EXPECT_FALSE(cache.recall("host/name")) << name;
    }
    Cache cache(directory_);
    cache.remember("host/name", digest_);
    EXPECT_THAT(cache.recall("host/name"), Optional(digest_)) << name;
  }
}

TEST_F(CacheTest, WhatIsNoFileInPlaceOfTheIndexGoes) {
  { const Cache cache(directory_); }
  for (const auto* name : {"data.mdb", "lock.mdb"}) {
    fs::remove(directory_ / "index" / name);
    fs::create_directory(directory_ / "index" / name);
    Cache cache(directory_);
    cache.remember("host/name", digest_);
    EXPECT_THAT(cache.recall("host/name"), Optional(digest_)) << name;
  }
}

TEST_F(CacheTest, FilesInPlaceOfItsDirectoriesAreSetAside) {
  { const Cache cache(directory_); }
  for (const auto* name : {"tmp", "blobs", "blobs/sha256", "index", "pins", "quarantine"}) {
    fs::remove_all(directory_ / name);
    write_text(directory_ / name, "a file");
    Cache cache(directory_);
    cache.write(digest_, as_bytes("content"));
    cache.remember("host/name", digest_);
    EXPECT_EQ(text(cache.read(digest_)), "content") << name;
    EXPECT_THAT(cache.recall("host/name"), Optional(digest_)) << name;
  }
}

TEST_F(CacheTest, ADirectoryThatIsALinkStays) {
  { const Cache cache(directory_); }
  fs::rename(directory_ / "blobs", temp_ / "elsewhere");
  fs::create_symlink(temp_ / "elsewhere", directory_ / "blobs");
  Cache cache(directory_);
  cache.write(digest_, as_bytes("content"));
  EXPECT_EQ(text(cache.read(digest_)), "content");
  EXPECT_TRUE(fs::is_symlink(directory_ / "blobs"));
}

TEST_F(CacheTest, ADirectoryInPlaceOfABlobIsQuarantined) {
  Cache cache(directory_);
  fs::create_directories(blob_file() / "in it");
  EXPECT_EQ(text(cache.read(digest_)), "(absent)");
  cache.write(digest_, as_bytes("content"));
  EXPECT_EQ(text(cache.read(digest_)), "content");
}

TEST_F(CacheTest, WorksWithoutAnIndex) {
  fs::create_directories(directory_);
  fs::create_directory_symlink("/proc", directory_ / "index");  // where nothing can be made
  Cache cache(directory_);
  cache.write(digest_, as_bytes("content"));
  EXPECT_EQ(text(cache.read(digest_)), "content");
  cache.remember("name", digest_);
  EXPECT_EQ(cache.recall("name"), std::nullopt);
}

TEST_F(CacheTest, ADirectoryThatCannotBeMadeHoldsNothing) {
  write_text(temp_ / "file", "");
  Cache cache(temp_ / "file/cache");
  cache.write(digest_, as_bytes("content"));
  EXPECT_EQ(text(cache.read(digest_)), "(absent)");
  EXPECT_FALSE(cache.map(digest_));
  cache.remember("name", digest_);
  EXPECT_EQ(cache.recall("name"), std::nullopt);
}

TEST_F(CacheTest, ABlobThatCannotBeWrittenIsDropped) {
  Cache cache(directory_);
  fs::create_directory_symlink("/proc", blob_file().parent_path());  // where nothing can be made
  cache.write(digest_, as_bytes("content"));
  EXPECT_EQ(text(cache.read(digest_)), "(absent)");
  EXPECT_EQ(entries(directory_ / "tmp"), 0);
}

TEST_F(CacheTest, GoesOnAfterItsDirectoryWasDeleted) {
  Cache cache(directory_);
  fs::remove_all(directory_);
  cache.write(digest_, as_bytes("content"));
  EXPECT_EQ(text(cache.read(digest_)), "content");
}

TEST_F(CacheTest, RemovesTemporaryFilesOfProgramsThatWereKilled) {
  { const Cache cache(directory_); }
  const auto leave = [this](const char* name, std::chrono::hours age) {
    write_text(directory_ / name, "half a bl");
    fs::last_write_time(directory_ / name, fs::file_time_type::clock::now() - age);
    return directory_ / name;
  };
  using std::chrono::hours;
  const auto old_ones = {leave("tmp/old", hours(48)), leave("pins/.tmp-old", hours(48)),
                         leave("tmp/ahead", -hours(24 * 365 * 50))};
  const auto others = {leave("tmp/new", hours(0)), leave("pins/old.json", hours(48))};
  const Cache cache(directory_);
  for (const auto& file : old_ones) EXPECT_FALSE(fs::exists(file)) << file;
  for (const auto& file : others) EXPECT_TRUE(fs::exists(file)) << file;
}

TEST_F(CacheTest, TwoObjectsInOneProgramShareOneIndex) {
  Cache first(directory_);
  {
    Cache second(directory_);
    second.remember("name", digest_);
  }
  EXPECT_EQ(first.recall("name"), digest_);
}

TEST_F(CacheTest, SeveralProcessesShareIt) {
  std::vector<pid_t> children;
  for (int i = 0; i < 4; ++i) {
    const auto child = fork();
    if (child == 0) {
      {
        Cache cache(directory_);
        for (int blob = 0; blob < 300; ++blob) {
          const auto content = "blob " + std::to_string(blob);
          cache.write(format::sha256(as_bytes(content)), as_bytes(content));
        }
        cache.remember("name " + std::to_string(i), digest_);
      }
      _exit(0);
    }
    children.push_back(child);
  }
  for (const auto child : children) {
    int status = -1;
    waitpid(child, &status, 0);
    EXPECT_EQ(status, 0);
  }
  Cache cache(directory_);
  const auto last = format::sha256(as_bytes("blob 299"));
  EXPECT_EQ(text(cache.read(last)), "blob 299");
  EXPECT_EQ(cache.info().contents.blobs, 300U);
  for (int i = 0; i < 4; ++i) EXPECT_EQ(cache.recall("name " + std::to_string(i)), digest_);
}

TEST_F(CacheTest, ManyThreadsShareIt) {
  Cache cache(directory_);
  std::vector<std::thread> threads;
  for (int i = 0; i < 8; ++i) {
    threads.emplace_back([&] {
      for (int blob = 0; blob < 100; ++blob) {
        const auto content = "blob " + std::to_string(blob);
        const auto digest = format::sha256(as_bytes(content));
        cache.write(digest, as_bytes(content));
        EXPECT_EQ(text(cache.read(digest)), content);
      }
    });
  }
  for (auto& thread : threads) thread.join();
}

class CacheDirectoryTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (const char* value = std::getenv("XDG_CACHE_HOME")) before_ = value;
  }
  void TearDown() override {
    before_ ? setenv("XDG_CACHE_HOME", before_->c_str(), 1) : unsetenv("XDG_CACHE_HOME");
  }
  std::optional<std::string> before_;
};

TEST_F(CacheDirectoryTest, FollowsTheXdgVariable) {
  setenv("XDG_CACHE_HOME", "/some/where", 1);
  EXPECT_EQ(default_cache_directory(), "/some/where/puzzlefs");
}

TEST_F(CacheDirectoryTest, IgnoresARelativeXdgVariableAsTheSpecificationDemands) {
  setenv("XDG_CACHE_HOME", "some/where", 1);
  EXPECT_TRUE(default_cache_directory().is_absolute());
}

TEST_F(CacheTest, AFullDiskLeavesTheIndexItsLockFile) {
  Cache cache(directory_);
  EXPECT_TRUE(cache.names().empty());  // which opens the index
  struct stat status {};
  ASSERT_EQ(stat((directory_ / "index/lock.mdb").c_str(), &status), 0);
  EXPECT_GE(status.st_blocks * 512, status.st_size);  // no hole that a write would have to fill
}

}  // namespace
}  // namespace puzzlefs::fetch
