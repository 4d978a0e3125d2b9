// Large files, which are made and verified in the background.
#include <chrono>
#include <filesystem>
#include <future>
#include <string>
#include <thread>
#include <vector>

#include "fetch/fs_verity.h"
#include "file_store_fixture.h"

namespace puzzlefs::fetch {
namespace {

namespace fs = std::filesystem;
using ::testing::IsEmpty;
using ::testing::SizeIs;

class LargeFilesTest : public FileStoreTest {
 protected:
  const std::string huge_ = random_text(FileStore::kMaxHashedSize + 1000, 3);
};

TEST_F(LargeFilesTest, WithoutRoomALargeFileIsNotMade) {
  const auto pieces = add(large_);
  start()->read_chunks(pieces);
  const auto process = start(kNoRoom);
  process->files->closed(pieces);
  // Asking for room makes some, which shows that it was asked for.
  EXPECT_TRUE(comes_true([&] { return !process->cache.has(pieces[0].blob); }));
  EXPECT_FALSE(process->open(pieces));
  process->files.reset();
  EXPECT_THAT(files(), IsEmpty());
  EXPECT_THAT(entries_below(directory_ / "tmp"), IsEmpty());
}

TEST_F(LargeFilesTest, ALargeFileIsMadeWhenItWasReadAndClosed) {
  const auto pieces = add(large_);
  const auto process = start();
  EXPECT_FALSE(process->open(pieces));
  EXPECT_THAT(source_.reads(), IsEmpty());
  process->read_chunks(pieces);
  const auto fetched = source_.reads().size();
  EXPECT_FALSE(process->open(pieces));
  process->files->closed(pieces);
  ASSERT_TRUE(process->comes_whole(pieces));
  EXPECT_TRUE(process->text(pieces) == large_);
  EXPECT_EQ(source_.reads().size(), fetched);
  EXPECT_THAT(entries_below(directory_ / "tmp"), IsEmpty());
}

TEST_F(LargeFilesTest, TheNextProcessVerifiesALargeFileAsItIsOpened) {
  const auto pieces = add(large_);
  make_large(*start(), pieces);
  const auto next = start_offline();
  EXPECT_TRUE(next->text(pieces) == large_);
  EXPECT_THAT(nothing_.reads(), IsEmpty());
}

TEST_F(LargeFilesTest, TheNextProcessVerifiesAHugeFileInTheBackground) {
  const auto pieces = add(huge_);
  make_large(*start(), pieces);
  const auto next = start_offline();
  const auto name = format::verity_digest(as_bytes(huge_));
  const auto measured = measure_fs_verity(open_regular_file(file_of(huge_)), "the file");
  EXPECT_EQ(measured.value_or(name), name);
  EXPECT_EQ(static_cast<bool>(next->open(pieces)), measured.has_value());  // at once
  ASSERT_TRUE(next->comes_whole(pieces));
  EXPECT_TRUE(next->text(pieces) == huge_);
  EXPECT_THAT(nothing_.reads(), IsEmpty());
}

TEST_F(LargeFilesTest, ItIsVerifiedFirstIfItsChunksHaveGone) {
  const auto pieces = add(huge_);
  make_large(*start(), pieces);
  fs::remove(blob_of(pieces.back()));
  const auto next = start_offline();
  std::vector<std::future<std::string>> answers;
  for (int i = 0; i < 8; ++i) {
    answers.push_back(std::async(std::launch::async, [&] { return next->text(pieces); }));
  }
  for (auto& answer : answers) EXPECT_TRUE(answer.get() == huge_);
  EXPECT_THAT(nothing_.reads(), IsEmpty());
}

TEST_F(LargeFilesTest, AFalsifiedOneIsOfNoUseWhenTheChunksHaveGone) {
  const auto pieces = add(large_);
  make_large(*start(), pieces);
  falsify(large_);
  forget_blobs();
  const auto next = start();
  EXPECT_FALSE(next->open(pieces));
  EXPECT_TRUE(fs::exists(refuge_of(large_)));
  make_large(*next, pieces);
  EXPECT_TRUE(next->text(pieces) == large_);
}

TEST_F(LargeFilesTest, ALastChunkThatIsStillBeingWrittenIsWaitedFor) {
  const auto pieces = add(large_);
  const auto process = start();
  process->read_chunks(pieces);
  ASSERT_TRUE(comes_true([&] { return process->cache.has(pieces.back().blob); }));
  const auto blob = blob_of(pieces.back());
  fs::rename(blob, temp_ / "blob");
  auto claim = process->cache.claims().claim(pieces.back().blob);
  ASSERT_TRUE(claim);
  process->files->closed(pieces);
  std::this_thread::sleep_for(std::chrono::milliseconds(150));
  EXPECT_FALSE(process->open(pieces));
  fs::rename(temp_ / "blob", blob);
  claim.reset();
  EXPECT_TRUE(process->comes_whole(pieces));
}

TEST_F(LargeFilesTest, WhatIsCutIntoCrumbsIsReadInPieces) {
  const auto crumbs = add(large_, 1000);
  const auto small_crumbs = add(small_, 20);
  const auto pieces = add(large_, 20'000);
  const auto process = start();
  process->read_chunks(crumbs);
  process->files->closed(crumbs);
  EXPECT_FALSE(process->open(small_crumbs));
  make_large(*process, pieces);  // which was queued after it
  EXPECT_FALSE(process->open(crumbs));
  EXPECT_THAT(recipes(), SizeIs(1));
}

TEST_F(LargeFilesTest, AFalsifiedLargeFileIsQuarantinedAndMadeAnew) {
  const auto pieces = add(large_);
  make_large(*start(), pieces);
  falsify(large_);
  const auto next = start_offline();
  EXPECT_FALSE(next->open(pieces));
  EXPECT_TRUE(comes_true([&] { return fs::exists(refuge_of(large_)); }));
  EXPECT_FALSE(next->open(pieces));
  EXPECT_TRUE(comes_true([&] {
    next->files->closed(pieces);
    return static_cast<bool>(next->open(pieces));
  }));
  EXPECT_TRUE(next->text(pieces) == large_);
}

TEST_F(LargeFilesTest, ALargeFileOfWhichSomethingIsMissingIsNotMade) {
  const auto missing = add(large_);
  const auto complete = add(random_text(kLargeSize, 3));
  const auto process = start();
  process->read_chunks({missing.begin(), missing.end() - 1});
  process->read_chunks(complete);
  const auto fetched = source_.reads().size();
  process->files->closed(missing);
  process->files->closed(complete);  // comes after it
  ASSERT_TRUE(process->comes_whole(complete));
  EXPECT_FALSE(process->open(missing));
  EXPECT_EQ(source_.reads().size(), fetched);
}

TEST_F(LargeFilesTest, ALargeFileThatRepeatsItselfIsNotMade) {
  const auto once = add(large_);
  FilePieces again;
  for (int i = 0; i < 3; ++i) again.insert(again.end(), once.begin(), once.end());
  // As much, in pieces that are all different.
  FilePieces shifted;
  for (std::uint64_t i = 0; i < 100; ++i) shifted.push_back({once[0].blob, i, 30'000, false});
  const auto process = start();
  process->read_chunks(once);
  process->files->closed(again);
  process->files->closed(shifted);
  process->files->closed(once);
  ASSERT_TRUE(process->comes_whole(once));
  EXPECT_THAT(files(), SizeIs(1));
}

TEST_F(LargeFilesTest, ALargeFileOfMoreThanHalfTheCacheIsNotMade) {
  const auto large = add(large_);
  const auto less = add(random_text(2 * kChunkSize, 3));
  const auto process = start({.size = 2 * kLargeSize - 1, .reserve = 0});
  process->read_chunks(large);
  process->read_chunks(less);
  process->files->closed(large);
  process->files->closed(less);
  ASSERT_TRUE(process->comes_whole(less));
  EXPECT_THAT(files(), SizeIs(1));
}

TEST_F(LargeFilesTest, EndsWithJobsUnderWayAndLeavesNothingBehind) {
  std::vector<FilePieces> all;
  for (unsigned i = 0; i < 5; ++i) all.push_back(add(random_text(40 * kChunkSize, 20 + i)));
  {
    const auto process = start();
    for (const auto& pieces : all) process->read_chunks(pieces);
  }
  for (int round = 0; round < 10; ++round) {
    const auto process = start();
    process->cache.info();  // counts
    for (const auto& pieces : all) process->files->closed(pieces);
    std::this_thread::sleep_for(std::chrono::milliseconds(round));
    process->files.reset();
    EXPECT_THAT(entries_below(directory_ / "tmp"), IsEmpty());
    const auto counted = CacheUsage(directory_ / "usage").get();
    EXPECT_EQ(counted, process->cache.info().contents.bytes);
    for (const auto& file : files()) fs::remove(file);
  }
}

}  // namespace
}  // namespace puzzlefs::fetch
