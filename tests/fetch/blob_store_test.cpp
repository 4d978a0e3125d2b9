#include "fetch/blob_store.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <fstream>
#include <future>
#include <thread>

#include "../support/temp_dir.h"
#include "fetch/layout.h"
#include "memory_source.h"

namespace puzzlefs::fetch {
namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;
using ::testing::ThrowsMessage;

void write_text(const fs::path& path, std::string_view text) {
  std::ofstream(path, std::ios::binary) << text;
}

Bytes bytes(std::string_view text) {
  const auto view = as_bytes(text);
  return {view.begin(), view.end()};
}

std::string read(BlobStore& store, const format::Descriptor& blob) {
  const auto read =
      wait_for<BlobData>([&](auto done) { store.read(blob, std::move(done), Answer::kWhenKept); });
  return std::string(as_text(*read));
}

class BlobStoreTest : public ::testing::Test {
 protected:
  fs::path cache_file(const format::Descriptor& blob) const {
    const auto hex = blob.digest.hex();
    return temp_ / "cache/blobs/sha256" / hex.substr(0, 2) / hex;
  }

  test::TempDir temp_;
  Cache cache_{temp_ / "cache"};
  MemorySource source_;
  format::Descriptor blob_ = source_.add("content");
  Runtime runtime_{2};
  BlobStore store_{runtime_, source_, &cache_};
};

TEST_F(BlobStoreTest, AsksTheSourceOnceAndThenTheCache) {
  EXPECT_EQ(read(store_, blob_), "content");
  EXPECT_EQ(read(store_, blob_), "content");
  EXPECT_THAT(source_.reads(), ElementsAre(Freshness::kAny));
}

TEST_F(BlobStoreTest, WorksWithoutACache) {
  BlobStore store(runtime_, source_, nullptr);
  EXPECT_EQ(read(store, blob_), "content");
  EXPECT_EQ(as_text(store.map(blob_).bytes()), "content");
  EXPECT_THAT(source_.reads(), SizeIs(2));
}

TEST_F(BlobStoreTest, WorksWithACacheThatCannotKeepAnything) {
  write_text(temp_ / "file", "");
  Cache unusable(temp_ / "file/cache");
  BlobStore store(runtime_, source_, &unusable);
  EXPECT_EQ(read(store, blob_), "content");
  EXPECT_EQ(as_text(store.map(blob_).bytes()), "content");
}

TEST_F(BlobStoreTest, FetchesAgainWhatWasFalsifiedInTheCache) {
  read(store_, blob_);
  write_text(cache_file(blob_), "CONTENT");
  EXPECT_EQ(read(store_, blob_), "content");
  write_text(cache_file(blob_), "CONTENT");
  EXPECT_EQ(as_text(store_.map(blob_).bytes()), "content");
  EXPECT_THAT(source_.reads(), SizeIs(3));
}

TEST_F(BlobStoreTest, AsksOncePastHttpCachesForWrongBytes) {
  source_.answer_next(bytes("CONTENT"));
  EXPECT_EQ(read(store_, blob_), "content");
  EXPECT_THAT(source_.reads(), ElementsAre(Freshness::kAny, Freshness::kBypass));
}

TEST_F(BlobStoreTest, AsksOncePastHttpCachesWhenTheSourceFindsTheBytesWrong) {
  source_.answer_next(std::make_exception_ptr(CorruptError("The answer is too long.")));
  EXPECT_EQ(read(store_, blob_), "content");
  EXPECT_THAT(source_.reads(), ElementsAre(Freshness::kAny, Freshness::kBypass));
}

TEST_F(BlobStoreTest, WrongBytesTwiceAreAnErrorThatNamesBlobAndSource) {
  source_.answer_next(bytes("CONTENT"));
  source_.answer_next(bytes("cont"));
  EXPECT_THAT([&] { read(store_, blob_); },
              ThrowsMessage<CorruptError>(
                  AllOf(HasSubstr("the test's memory"), HasSubstr(blob_.digest.to_string()))));
  EXPECT_FALSE(fs::exists(cache_file(blob_)));
}

TEST_F(BlobStoreTest, AnUnavailableSourceIsNotAskedAgain) {
  source_.answer_next(std::make_exception_ptr(UnavailableError("It is down.")));
  EXPECT_THROW(read(store_, blob_), UnavailableError);
  EXPECT_THAT(source_.reads(), SizeIs(1));
}

TEST_F(BlobStoreTest, AMissingBlobIsNotFound) {
  const auto absent = MemorySource().add("absent");
  EXPECT_THROW(read(store_, absent), NotFoundError);
  EXPECT_THROW(store_.map(absent), NotFoundError);
}

TEST_F(BlobStoreTest, RefusesASizeThatTheBytesDoNotHave) {
  auto lie = blob_;
  lie.size = 8;
  EXPECT_THROW(read(store_, lie), CorruptError);
  read(store_, blob_);
  EXPECT_THROW(read(store_, lie), CorruptError);
  EXPECT_THROW(store_.map(lie), CorruptError);
}

// The Rust puzzlefs gives compressed chunks the size that they have uncompressed.
TEST_F(BlobStoreTest, GoesByTheDigestOfAFileThatIsSmallerThanTheImageSays) {
  const auto layout = Layout::create(temp_ / "layout");
  layout.write_blob(blob_.digest, as_bytes("content"));
  auto source = Layout::open(temp_ / "layout");
  BlobStore store(runtime_, source, nullptr);
  auto larger = blob_;
  larger.size = 4711;
  EXPECT_EQ(read(store, larger), "content");
  EXPECT_EQ(as_text(store.map(larger).bytes()), "content");
  auto smaller = blob_;
  smaller.size = 6;
  EXPECT_THROW(read(store, smaller), CorruptError);
}

TEST_F(BlobStoreTest, RefusesAHostileSizeBeforeAskingForAnything) {
  auto hostile = blob_;
  hostile.size = std::uint64_t{1} << 62;
  EXPECT_THROW(read(store_, hostile), CorruptError);
  EXPECT_THROW(store_.map(hostile), CorruptError);
  EXPECT_THAT(source_.reads(), IsEmpty());
}

TEST_F(BlobStoreTest, MapsFromTheCacheWhatItFetched) {
  EXPECT_EQ(as_text(store_.map(blob_).bytes()), "content");
  EXPECT_EQ(as_text(store_.map(blob_).bytes()), "content");
  EXPECT_THAT(source_.reads(), SizeIs(1));
}

// Another process, as far as the cache can tell.
class SharedCacheTest : public BlobStoreTest {
 protected:
  std::future<Outcome<BlobData>> start_reading(BlobStore& store) {
    auto promise = std::make_shared<std::promise<Outcome<BlobData>>>();
    store.read(blob_, [promise](Outcome<BlobData> outcome) { promise->set_value(outcome); });
    return promise->get_future();
  }
  void wait_for_reads(std::size_t count) {
    while (source_.reads().size() < count) std::this_thread::sleep_for(1ms);
  }

  Cache other_cache_{temp_ / "cache"};
  BlobStore other_{runtime_, source_, &other_cache_};
};

TEST_F(SharedCacheTest, ABlobIsFetchedOnceForAll) {
  source_.hold();
  auto first = start_reading(store_);
  wait_for_reads(1);
  auto second = start_reading(other_);
  EXPECT_EQ(second.wait_for(100ms), std::future_status::timeout);
  source_.release();
  EXPECT_EQ(as_text(*first.get().value()), "content");
  EXPECT_EQ(as_text(*second.get().value()), "content");
  EXPECT_THAT(source_.reads(), SizeIs(1));
}

TEST_F(SharedCacheTest, WhatTheOtherCouldNotGetIsFetchedHere) {
  source_.hold();
  source_.answer_next(std::make_exception_ptr(UnavailableError("Not now.")));
  auto first = start_reading(store_);
  wait_for_reads(1);
  auto second = start_reading(other_);
  EXPECT_EQ(second.wait_for(50ms), std::future_status::timeout);
  source_.release();
  EXPECT_FALSE(first.get().ok());
  EXPECT_EQ(as_text(*second.get().value()), "content");
  EXPECT_THAT(source_.reads(), SizeIs(2));
}

TEST_F(SharedCacheTest, NobodyIsWaitedForAfterTheEnd) {
  const auto claim = cache_.claims().claim(blob_.digest);
  other_.close();
  EXPECT_EQ(read(other_, blob_), "content");
}

TEST_F(SharedCacheTest, AReaderDoesNotWaitForTheCache) {
  std::promise<bool> kept;
  store_.read(blob_, [&](Outcome<BlobData>) { kept.set_value(cache_.has(blob_.digest)); });
  EXPECT_FALSE(kept.get_future().get());
  EXPECT_EQ(read(other_, blob_), "content");
  EXPECT_THAT(source_.reads(), SizeIs(1));
}

TEST_F(SharedCacheTest, WhoAsksToWaitForTheCacheFindsTheBlobThere) {
  std::promise<bool> kept;
  store_.read(
      blob_, [&](Outcome<BlobData>) { kept.set_value(cache_.has(blob_.digest)); },
      Answer::kWhenKept);
  EXPECT_TRUE(kept.get_future().get());
}

class BlobStoreOnLayoutTest : public ::testing::Test {
 protected:
  test::TempDir temp_;
  Layout layout_ = Layout::create(temp_ / "layout");
  format::Descriptor blob_ = MemorySource().add("content");
  Cache cache_{temp_ / "cache"};
  Runtime runtime_{2};
  BlobStore store_{runtime_, layout_, &cache_};
};

TEST_F(BlobStoreOnLayoutTest, ReadsInPlaceAndKeepsNoCopy) {
  layout_.write_blob(blob_.digest, as_bytes("content"));
  EXPECT_EQ(read(store_, blob_), "content");
  EXPECT_EQ(as_text(store_.map(blob_).bytes()), "content");
  EXPECT_FALSE(cache_.read(blob_.digest));
}

TEST_F(BlobStoreOnLayoutTest, ASmallBlobInUseDoesNotChangeWithItsFile) {
  layout_.write_blob(blob_.digest, as_bytes("content"));
  const auto blob = store_.map(blob_);
  write_text(layout_.blob_path(blob_.digest), "CON");
  EXPECT_EQ(as_text(blob.bytes()), "content");
}

TEST_F(BlobStoreOnLayoutTest, ALargeBlobIsVerifiedInPlace) {
  std::string content(BlobStore::kMaxCopiedSize + 1, 'x');
  const auto large = MemorySource().add(content);
  layout_.write_blob(large.digest, as_bytes(content));
  EXPECT_EQ(as_text(store_.map(large).bytes()), content);
  content.back() = 'y';
  layout_.replace_blob(large.digest, as_bytes(content));
  EXPECT_THROW(store_.map(large), CorruptError);
}

TEST_F(BlobStoreOnLayoutTest, ALargeBlobThatIsCutShortInUseIsAnError) {
  const std::string content(BlobStore::kMaxCopiedSize + 1, 'x');
  const auto large = MemorySource().add(content);
  layout_.write_blob(large.digest, as_bytes(content));
  const auto blob = store_.map(large);
  const auto path = layout_.blob_path(large.digest);
  fs::resize_file(path, 1);
  EXPECT_EQ(blob.bytes().back(), std::byte{0});
  EXPECT_EQ(blob.watch().state->load(), 1);
  EXPECT_THAT([&] { blob.watch().on_damage(); },
              ThrowsMessage<CorruptError>(HasSubstr(path.native())));
}

TEST_F(BlobStoreOnLayoutTest, WhatTheKernelDoesNotAnswerForIsHashed) {
  FsVerityCheck check(false, [](const format::Digest&) { return format::Digest(); });
  store_.use_fs_verity(check);
  layout_.write_blob(blob_.digest, as_bytes("content"));
  EXPECT_EQ(read(store_, blob_), "content");
  write_text(layout_.blob_path(blob_.digest), "CONTENT");
  EXPECT_THROW(read(store_, blob_), CorruptError);
  EXPECT_THROW(store_.map(blob_), CorruptError);
}

TEST_F(BlobStoreOnLayoutTest, WhatTheKernelDoesNotAnswerForIsRefusedWhereItMust) {
  FsVerityCheck check(true, [](const format::Digest&) { return format::Digest(); });
  store_.use_fs_verity(check);
  layout_.write_blob(blob_.digest, as_bytes("content"));
  EXPECT_THROW(read(store_, blob_), Error);
  EXPECT_THROW(store_.map(blob_), Error);
}

TEST_F(BlobStoreOnLayoutTest, AFalsifiedBlobIsAnErrorThatNamesTheFile) {
  const auto path = layout_.blob_path(blob_.digest);
  for (const auto* wrong : {"CONTENT", "cont", "contents"}) {
    write_text(path, wrong);
    EXPECT_THAT([&] { read(store_, blob_); },
                ThrowsMessage<CorruptError>(HasSubstr(path.native())));
    EXPECT_THAT([&] { store_.map(blob_); }, ThrowsMessage<CorruptError>(HasSubstr(path.native())));
  }
}

TEST_F(BlobStoreOnLayoutTest, AMissingBlobIsNotFoundInTheLayout) {
  EXPECT_THAT([&] { read(store_, blob_); },
              ThrowsMessage<NotFoundError>(
                  AllOf(HasSubstr(layout_.path().native()), HasSubstr(blob_.digest.hex()))));
}

}  // namespace
}  // namespace puzzlefs::fetch
