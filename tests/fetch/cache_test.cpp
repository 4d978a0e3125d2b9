#include "fetch/cache.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
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
  std::optional<CachedBlob> indexed(const format::Digest& digest) const {
    return CacheIndex::open(directory_ / "index", directory_ / "blobs/sha256")->find(digest);
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

TEST_F(CacheTest, TheIndexKnowsTheBlobsThatWereWritten) {
  Cache(directory_).write(digest_, as_bytes("content"));
  EXPECT_EQ(indexed(digest_).value().size, 7U);
}

TEST_F(CacheTest, TheIndexForgetsAQuarantinedBlob) {
  {
    Cache cache(directory_);
    cache.write(digest_, as_bytes("content"));
    write_text(blob_file(), "Content");
    cache.read(digest_);
  }
  EXPECT_EQ(indexed(digest_), std::nullopt);
}

TEST_F(CacheTest, ALostIndexIsMadeAnewFromTheFiles) {
  Cache(directory_).write(digest_, as_bytes("content"));
  fs::remove_all(directory_ / "index");
  { const Cache cache(directory_); }
  EXPECT_EQ(indexed(digest_).value().size, 7U);
}

TEST_F(CacheTest, AFalsifiedIndexIsMadeAnewFromTheFiles) {
  Cache(directory_).write(digest_, as_bytes("content"));
  write_text(directory_ / "index/data.mdb", std::string(100'000, 'x'));
  Cache cache(directory_);
  EXPECT_EQ(indexed(digest_).value().size, 7U);
  cache.remember("name", digest_);
  EXPECT_EQ(cache.recall("name"), digest_);
}

TEST_F(CacheTest, ATruncatedIndexIsMadeAnewFromTheFiles) {
  Cache(directory_).write(digest_, as_bytes("content"));
  fs::resize_file(directory_ / "index/data.mdb", 2 * 4096);  // as far as LMDB looks when it opens
  { const Cache cache(directory_); }
  EXPECT_EQ(indexed(digest_).value().size, 7U);
}

TEST_F(CacheTest, WorksWithoutAnIndex) {
  fs::create_directories(directory_ / "index/data.mdb");  // a directory, which LMDB cannot open
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
  write_text(blob_file().parent_path(), "not a directory");
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
  write_text(directory_ / "tmp/old", "half a bl");
  write_text(directory_ / "tmp/new", "half a bl");
  fs::last_write_time(directory_ / "tmp/old",
                      fs::file_time_type::clock::now() - std::chrono::hours(48));
  const Cache cache(directory_);
  EXPECT_FALSE(fs::exists(directory_ / "tmp/old"));
  EXPECT_TRUE(fs::exists(directory_ / "tmp/new"));
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
  EXPECT_EQ(indexed(last).value().size, 8U);
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
  const Cache cache(directory_);
  struct stat status {};
  ASSERT_EQ(stat((directory_ / "index/lock.mdb").c_str(), &status), 0);
  EXPECT_GE(status.st_blocks * 512, status.st_size);  // no hole that a write would have to fill
}

}  // namespace
}  // namespace puzzlefs::fetch
