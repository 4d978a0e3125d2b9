// Whole files in the cache: when small ones are made, and what happens to all of them then.
#include <chrono>
#include <filesystem>
#include <fstream>
#include <future>
#include <limits>
#include <set>
#include <thread>

#include "fetch/given_up.h"
#include "file_store_fixture.h"
#include "format/chunk_codec.h"

namespace puzzlefs::fetch {
namespace {

namespace fs = std::filesystem;
using ::testing::IsEmpty;
using ::testing::SizeIs;

TEST_F(FileStoreTest, ASmallFileIsMadeWhenItIsOpened) {
  const auto pieces = add(small_, 2000);
  const auto process = start();
  EXPECT_TRUE(process->text(pieces) == small_);
  EXPECT_THAT(files(), ::testing::ElementsAre(file_of(small_)));
  struct stat status {};
  ASSERT_EQ(::stat(file_of(small_).c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 07777, 0600U);
  EXPECT_TRUE(process->keeps(pieces));
  EXPECT_THAT(entries_below(directory_ / "tmp"), IsEmpty());
}

TEST_F(FileStoreTest, ItIsMadeOfThePartsOfItsChunksThatAreItsOwn) {
  const auto compressed =
      format::ChunkCompressor().compress(as_bytes(std::string(9000, 'c') + small_));
  ASSERT_TRUE(compressed);
  const auto chunk = source_.add(as_text(*compressed));
  manifest_.layers.push_back(chunk);
  auto pieces = add("0123456789");
  pieces[0].offset = 3;
  pieces[0].size = 4;
  pieces.insert(pieces.begin(), {chunk.digest, 8990, 500, true});
  pieces.push_back({chunk.digest, 0, 2, true});
  EXPECT_EQ(start()->text(pieces), std::string(10, 'c') + small_.substr(0, 490) + "3456cc");
}

TEST_F(FileStoreTest, AnEmptyFileHasNoPieces) {
  const auto process = start();
  EXPECT_EQ(process->text({}), "");
  EXPECT_EQ(process->text({}), "");
}

TEST_F(FileStoreTest, ASmallFileIsGivenUpWhenNobodyWantsItAnyMore) {
  const auto pieces = add(small_, 2000);
  const auto process = start();
  source_.hold();
  std::promise<Outcome<FileDescriptor>> first;
  std::promise<Outcome<FileDescriptor>> second;
  process->files->open(pieces, [&](auto outcome) { first.set_value(std::move(outcome)); });
  process->files->open(pieces, [&](auto outcome) { second.set_value(std::move(outcome)); });
  EXPECT_TRUE(comes_true([&] { return source_.reads().size() == pieces.size(); }));
  auto answer = first.get_future();
  process->files->give_up(pieces);
  EXPECT_EQ(answer.wait_for(std::chrono::milliseconds(50)), std::future_status::timeout)
      << "one still wants it";
  process->files->give_up(pieces);
  EXPECT_TRUE(is_given_up(answer.get().error()));
  EXPECT_TRUE(is_given_up(second.get_future().get().error()));
  process->files->give_up(pieces);
  source_.release();
  EXPECT_TRUE(process->text(pieces) == small_);
}

TEST_F(FileStoreTest, WhatWasVerifiedIsAnsweredAtOnce) {
  const auto pieces = add(small_);
  const auto process = start();
  process->open(pieces);
  std::thread::id answered_on;
  std::string text;
  process->files->open(pieces, [&](Outcome<FileDescriptor> outcome) {
    answered_on = std::this_thread::get_id();
    text = read_all(outcome.value());
  });
  EXPECT_EQ(answered_on, std::this_thread::get_id());
  EXPECT_TRUE(text == small_);
}

TEST_F(FileStoreTest, ItIsMadeOnceHoweverManyOpenIt) {
  const auto pieces = add(small_);
  const auto process = start();
  source_.hold();
  std::vector<std::future<FileDescriptor>> answers;
  for (int i = 0; i < 32; ++i) {
    answers.push_back(std::async(std::launch::async, [&] { return process->open(pieces); }));
  }
  while (source_.reads().empty()) std::this_thread::yield();
  source_.release();
  std::set<ino_t> inodes;
  std::vector<FileDescriptor> opened;
  for (auto& answer : answers) {
    opened.push_back(answer.get());
    EXPECT_TRUE(read_all(opened.back()) == small_);
    inodes.insert(inode_of(opened.back()));
  }
  EXPECT_THAT(inodes, SizeIs(1));
  EXPECT_THAT(source_.reads(), SizeIs(1));
}

TEST_F(FileStoreTest, TheSameBytesAreOneFileHoweverTheyAreCut) {
  const auto coarse = add(small_);
  const auto fine = add(small_, 1000);
  const auto process = start();
  const auto first = process->open(coarse);
  const auto second = process->open(fine);
  EXPECT_TRUE(read_all(second) == small_);
  EXPECT_EQ(inode_of(first), inode_of(second));
  EXPECT_THAT(recipes(), SizeIs(2));
}

TEST_F(FileStoreTest, TheNextProcessUsesIt) {
  const auto pieces = add(small_);
  start()->open(pieces);
  forget_blobs();
  const auto next = start_offline();
  EXPECT_TRUE(next->text(pieces) == small_);
  EXPECT_THAT(nothing_.reads(), IsEmpty());
}

TEST_F(FileStoreTest, AFalsifiedFileIsQuarantinedAndMadeAnew) {
  const auto pieces = add(small_);
  start()->open(pieces);
  falsify(small_);
  EXPECT_TRUE(start()->text(pieces) == small_);
  EXPECT_TRUE(fs::exists(refuge_of(small_)));
  EXPECT_TRUE(start()->text(pieces) == small_);
}

TEST_F(FileStoreTest, ATruncatedFileIsQuarantinedAndMadeAnew) {
  const auto pieces = add(small_);
  start()->open(pieces);
  fs::remove(file_of(small_));  // where fs-verity is, nobody can cut it short
  std::ofstream(file_of(small_), std::ios::binary) << small_.substr(0, 4096);
  EXPECT_TRUE(start()->text(pieces) == small_);
  EXPECT_TRUE(fs::exists(refuge_of(small_)));
}

TEST_F(FileStoreTest, AFileThatWasExchangedIsVerifiedAgain) {
  const auto pieces = add(small_);
  const auto process = start();
  process->open(pieces);
  falsify(small_);
  EXPECT_TRUE(process->text(pieces) == small_);
  EXPECT_TRUE(fs::exists(refuge_of(small_)));

  fs::remove(file_of(small_));
  std::ofstream(file_of(small_), std::ios::binary) << small_;
  const auto right = process->open(pieces);
  EXPECT_TRUE(read_all(right) == small_);
  EXPECT_TRUE(fs::exists(file_of(small_)));
}

TEST_F(FileStoreTest, WhateverIsOddAboutARecipeIsReplaced) {
  const auto pieces = add(small_);
  const auto other = add(random_text(4000, 9));
  start()->open(other);
  start()->open(pieces);
  const auto recipe = recipe_of(pieces);
  const auto right = fs::read_symlink(recipe);
  const auto check = [&](const char* what) {
    EXPECT_TRUE(start()->text(pieces) == small_) << what;
    EXPECT_TRUE(fs::is_symlink(recipe)) << what;
    EXPECT_EQ(fs::read_symlink(recipe), right) << what;
  };
  const auto point_to = [&](const fs::path& target) {
    fs::remove(recipe);
    fs::create_symlink(target, recipe);
  };
  point_to("garbage");
  check("garbage");
  point_to(std::string(44, '='));
  check("no base64");
  point_to(std::string(43, 'A') + "=");
  check("to a file that is not there");
  point_to(fs::read_symlink(recipe_of(other)));
  check("to a file of another size");
  fs::remove(recipe);
  std::ofstream(recipe) << "a file";
  check("a file");
  fs::remove(file_of(small_));
  check("its file is gone");
}

TEST_F(FileStoreTest, AFailedFetchIsTheAnswer) {
  const auto pieces = add(small_);
  const auto process = start();
  source_.answer_next(std::make_exception_ptr(UnavailableError("It is down.")));
  EXPECT_THROW(process->open(pieces), UnavailableError);
  EXPECT_THAT(files(), IsEmpty());
  EXPECT_TRUE(process->text(pieces) == small_);
}

TEST_F(FileStoreTest, APieceOutsideItsChunkIsCorrupt) {
  auto pieces = add(small_);
  pieces[0].size += 1;
  EXPECT_THROW(start()->open(pieces), CorruptError);
  pieces[0].size = std::numeric_limits<std::uint64_t>::max();
  pieces.push_back(pieces[0]);
  EXPECT_FALSE(start()->open(pieces));  // a very large file
}

TEST_F(FileStoreTest, WithoutRoomASmallFileIsReadInPieces) {
  const auto pieces = add(small_);
  const auto process = start(kNoRoom);
  EXPECT_FALSE(process->open(pieces));
  EXPECT_THAT(files(), IsEmpty());
  EXPECT_THAT(recipes(), IsEmpty());
  EXPECT_THAT(entries_below(directory_ / "tmp"), IsEmpty());
}

TEST_F(FileStoreTest, AFileThatCannotBeWrittenIsReadInPieces) {
  const auto pieces = add(small_);
  const auto process = start();
  process->cache.info();  // counts
  fs::remove(directory_ / "files");
  std::ofstream(directory_ / "files") << "not a directory";
  EXPECT_FALSE(process->open(pieces));
  EXPECT_TRUE(process->keeps(pieces));
  EXPECT_THAT(entries_below(directory_ / "tmp"), IsEmpty());
  const auto counted = CacheUsage(directory_ / "usage").get();
  EXPECT_EQ(counted, process->cache.info().contents.bytes);
}

TEST_F(FileStoreTest, GoesOnAfterTheCacheWasDeleted) {
  const auto pieces = add(small_);
  const auto process = start();
  process->cache.info();  // or else the evictor may count while it is deleted
  process->open(pieces);
  // At once: what is removed file by file may get new ones meanwhile.
  fs::rename(directory_, directory_.native() + ".deleted");
  process->open(pieces);
  EXPECT_TRUE(process->text(pieces) == small_);
}

TEST_F(FileStoreTest, AClosedSmallFileIsLeftAlone) {
  const auto pieces = add(small_);
  const auto large = add(large_);
  const auto process = start();
  process->read_chunks(pieces);
  process->files->closed(pieces);
  make_large(*process, large);
  EXPECT_THAT(files(), SizeIs(1));
}

TEST_F(FileStoreTest, WhatIsInUseIsNotEvicted) {
  const auto used = add(small_);
  const auto unused = add(random_text(6000, 4));
  const auto process = start();
  auto file = process->open(used);
  process->open(unused);
  EXPECT_TRUE(process->keeps(used));
  EXPECT_TRUE(process->keeps(unused));
  auto left = process->cache.shrink(0);
  EXPECT_EQ(left.files, 1U);
  EXPECT_EQ(left.removed_files, 1U);
  EXPECT_EQ(left.blobs, 0U);
  EXPECT_TRUE(read_all(file) == small_);
  EXPECT_THAT(files(), ::testing::ElementsAre(file_of(small_)));
  EXPECT_THAT(recipes(), ::testing::ElementsAre(recipe_of(used)));
  file = FileDescriptor();
  left = process->cache.shrink(0);
  EXPECT_EQ(left.files, 0U);
  EXPECT_EQ(left.bytes, 0U);
  EXPECT_THAT(files(), IsEmpty());
  EXPECT_THAT(recipes(), IsEmpty());
  EXPECT_TRUE(process->text(used) == small_);
}

TEST_F(FileStoreTest, EveryOneWhoHasItOpenKeepsIt) {
  const auto pieces = add(small_);
  const auto process = start();
  auto first = process->open(pieces);
  const auto second = process->open(pieces);
  first = FileDescriptor();
  EXPECT_EQ(process->cache.shrink(0).files, 1U);
}

TEST_F(FileStoreTest, OpeningIsAUse) {
  const auto pieces = add(small_);
  const auto process = start();
  process->open(pieces);
  const auto long_ago = fs::file_time_type::clock::now() - std::chrono::hours(10);
  fs::last_write_time(file_of(small_), long_ago);
  process->open(pieces);
  EXPECT_GT(fs::last_write_time(file_of(small_)), long_ago + std::chrono::hours(9));
}

TEST_F(FileStoreTest, ChunksThatFilesHaveAllOfGoFirst) {
  const auto chunk = source_.add(small_);
  manifest_.layers.push_back(chunk);
  const auto other = add(random_text(5000, 5));
  const FilePieces begin{{chunk.digest, 0, 3000, false}};
  const FilePieces end{{chunk.digest, 3000, small_.size() - 3000, false}};
  const auto process = start();
  process->read_chunks(other);
  process->open(begin);
  EXPECT_TRUE(process->keeps(begin));
  EXPECT_GT(fs::last_write_time(blob_of(begin[0])),
            fs::last_write_time(blob_of(other[0])) - std::chrono::hours(1));
  process->open(end);
  EXPECT_TRUE(process->keeps(end));
  struct stat status {};
  const auto is_demoted = [&] {
    return ::stat(blob_of(end[0]).c_str(), &status) == 0 && status.st_mtime == 0;
  };
  EXPECT_TRUE(comes_true(is_demoted));
  fs::last_write_time(blob_of(other[0]),
                      fs::file_time_type::clock::now() - std::chrono::hours(1000));
  const auto bytes = process->cache.info().contents.bytes;
  EXPECT_EQ(process->cache.shrink(bytes - 1).removed, 1U);
  EXPECT_FALSE(process->cache.has(chunk.digest));
  EXPECT_TRUE(process->cache.has(other[0].blob));
}

TEST_F(FileStoreTest, AChunkOfOneSmallFileIsDemotedThoughItIsWrittenLater) {
  const auto pieces = add(small_);
  const auto process = start();
  process->open(pieces);
  EXPECT_TRUE(comes_true([&] {
    struct stat status {};
    return ::stat(blob_of(pieces[0]).c_str(), &status) == 0 && status.st_mtime == 0;
  }));
}

TEST_F(FileStoreTest, ADemotedChunkThatMakesAnotherFileStaysDemoted) {
  const auto pieces = add(small_);
  {
    const auto process = start();
    process->open(pieces);
    process->keeps(pieces);
  }
  const auto process = start();  // which reads the chunk from the disk, and counts anew
  FilePieces part = pieces;
  process->open(pieces);
  part[0].size = 100;
  process->open(part);
  process->open({{pieces[0].blob, 100, small_.size() - 100, false}});
  struct stat status {};
  ASSERT_EQ(::stat(blob_of(pieces[0]).c_str(), &status), 0);
  EXPECT_EQ(status.st_mtime, 0);
}

TEST_F(FileStoreTest, AScrubFindsFilesThatHaveChanged) {
  const auto changed = add(small_);
  const auto unchanged = add(random_text(300, 6));
  const auto process = start();
  process->open(changed);
  process->open(unchanged);
  falsify(small_);
  int good = 0;
  int bad = 0;
  process->cache.scrub([&](CacheItem item, std::uint64_t, bool is_good) {
    if (item == CacheItem::kFile) ++(is_good ? good : bad);
  });
  EXPECT_EQ(good, 1);
  EXPECT_EQ(bad, 1);
  EXPECT_TRUE(fs::exists(refuge_of(small_)));
}

TEST_F(FileStoreTest, EndsOnlyWhenNoFileIsBeingOpened) {
  const auto pieces = add(small_);
  const auto process = start();
  source_.hold();
  std::promise<std::string> text;
  process->files->open(
      pieces, [&](Outcome<FileDescriptor> outcome) { text.set_value(read_all(outcome.value())); });
  while (source_.reads().empty()) std::this_thread::yield();
  std::thread releaser([&] { source_.release(); });
  process->files.reset();
  auto answer = text.get_future();
  EXPECT_EQ(answer.wait_for(std::chrono::seconds(0)), std::future_status::ready);
  EXPECT_TRUE(answer.get() == small_);
  releaser.join();
}

}  // namespace
}  // namespace puzzlefs::fetch
