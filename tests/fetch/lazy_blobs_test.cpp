#include "fetch/lazy_blobs.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mount.h>

#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <future>
#include <memory>
#include <string>
#include <thread>

#include "../support/temp_dir.h"
#include "fetch/layout.h"
#include "format/error.h"
#include "format/verity.h"
#include "memory_source.h"

namespace puzzlefs::fetch {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;
using ::testing::SizeIs;
using ::testing::ThrowsMessage;

void overwrite(const fs::path& path, std::size_t place) {
  std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
  file.seekp(static_cast<std::streamoff>(place));
  file << "#";
}

std::string text_of(const fs::path& path) {
  const auto bytes = read_file(path, 1 << 20);
  return std::string(as_text(bytes));
}

std::string make_content() {
  std::string content;
  while (content.size() < LazyBlobs::kLeastSize) content += std::to_string(content.size()) + " ";
  return content;
}

char at(const Blob& blob, std::size_t place) {
  return static_cast<char>(blob.bytes()[place]);
}

class LazyBlobsTest : public ::testing::Test {
 protected:
  fs::path cache_file() const {
    const auto hex = blob_.digest.hex();
    return temp_ / "cache/blobs/sha256" / hex.substr(0, 2) / hex;
  }
  fs::path tree_file() const { return temp_ / "cache/trees" / blob_.digest.hex(); }

  test::TempDir temp_;
  Cache cache_{temp_ / "cache"};
  MemorySource source_;
  const std::string content_ = make_content();
  const format::Descriptor blob_ = source_.add(content_);
  const format::Digest verity_ = format::verity_digest(as_bytes(content_));
  const std::size_t last_ = content_.size() - 1;
  Runtime runtime_{2};
  BlobStore store_{runtime_, source_, &cache_};
  LazyBlobs blobs_{store_, cache_};
};

TEST_F(LazyBlobsTest, GivesTheBytesOfTheBlob) {
  EXPECT_EQ(as_text(blobs_.map(blob_, {}, verity_).bytes()), content_);
  EXPECT_EQ(as_text(blobs_.map(blob_, {}, verity_).bytes()), content_);
  EXPECT_THAT(source_.reads(), SizeIs(1));
}

TEST_F(LazyBlobsTest, VerifiesOnlyWhatIsTouched) {
  static_cast<void>(blobs_.map(blob_, {}, verity_));
  overwrite(cache_file(), last_);
  const auto blob = blobs_.map(blob_, {}, verity_);
  EXPECT_EQ(at(blob, 0), content_[0]);
  EXPECT_EQ(blob.watch().state->load(), 0);
  EXPECT_THAT(source_.reads(), SizeIs(1));
  EXPECT_EQ(at(blob, last_), '\0');
  EXPECT_EQ(blob.watch().state->load(), 1);
}

TEST_F(LazyBlobsTest, WhatIsWrongIsFetchedAgainWhileItIsInUse) {
  static_cast<void>(blobs_.map(blob_, {}, verity_));
  overwrite(cache_file(), last_);
  const auto blob = blobs_.map(blob_, {}, verity_);
  EXPECT_EQ(at(blob, last_), '\0');
  const auto watch = blob.watch();
  EXPECT_THAT(watch.on_damage, ThrowsMessage<UnavailableError>(HasSubstr("fetched again")));
  while (*watch.state == 1) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  EXPECT_EQ(at(blob, last_), content_[last_]);
  EXPECT_EQ(*watch.state, 2);
  EXPECT_THAT(source_.reads(), SizeIs(2));
  EXPECT_TRUE(fs::exists(temp_ / "cache/quarantine" / blob_.digest.hex()));
  EXPECT_EQ(as_text(*cache_.read(blob_.digest)), content_);
}

TEST_F(LazyBlobsTest, IsRepairedWhereTheCacheKeepsNothing) {
  static_cast<void>(blobs_.map(blob_, {}, verity_));
  overwrite(cache_file(), last_);
  const auto blob = blobs_.map(blob_, {}, verity_);
  EXPECT_EQ(at(blob, last_), '\0');
  fs::remove_all(temp_ / "cache");
  std::ofstream(temp_ / "cache") << "no directory";
  const auto watch = blob.watch();
  EXPECT_THROW(watch.on_damage(), UnavailableError);
  while (*watch.state == 1) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  EXPECT_EQ(at(blob, last_), content_[last_]);
}

TEST_F(LazyBlobsTest, IsRepairedForThoseWhoLookAtItAgain) {
  static_cast<void>(blobs_.map(blob_, {}, verity_));
  overwrite(cache_file(), last_);
  const auto blob = blobs_.map(blob_, {}, verity_);
  {
    const auto again = blob.again();
    EXPECT_EQ(at(*again, last_), '\0');
    EXPECT_THROW(again->watch().on_damage(), UnavailableError);
  }
  EXPECT_EQ(*blob.watch().state, 0);
  while (at(*blob.again(), last_) == '\0')
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  EXPECT_EQ(as_text(blob.bytes()), content_);
  EXPECT_EQ(*blob.watch().state, 0);
}

TEST_F(LazyBlobsTest, OnlyWhatIsLazyMayBeHadAgain) {
  EXPECT_FALSE(store_.map(blob_).again());
}

TEST_F(LazyBlobsTest, TakesWhatAnotherProcessHasRepaired) {
  static_cast<void>(blobs_.map(blob_, {}, verity_));
  overwrite(cache_file(), last_);
  const auto blob = blobs_.map(blob_, {}, verity_);
  EXPECT_EQ(at(blob, last_), '\0');
  fs::remove(cache_file());
  cache_.write(blob_.digest, as_bytes(content_));
  const auto watch = blob.watch();
  EXPECT_THROW(watch.on_damage(), UnavailableError);
  while (*watch.state == 1) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  EXPECT_EQ(at(blob, last_), content_[last_]);
  EXPECT_THAT(source_.reads(), SizeIs(1));
}

TEST_F(LazyBlobsTest, ThreadsOfTheRuntimeMayTouchIt) {
  static_cast<void>(blobs_.map(blob_, {}, verity_));
  const auto blob = blobs_.map(blob_, {}, verity_);
  std::promise<std::string> seen;
  runtime_.post([&] { seen.set_value(std::string(as_text(blob.bytes()))); });
  EXPECT_EQ(seen.get_future().get(), content_);
  const auto again = blobs_.map(blob_, {}, verity_);
  std::promise<char> on_the_loop;
  boost::asio::post(runtime_.loop(), [&] { on_the_loop.set_value(at(again, last_)); });
  EXPECT_EQ(on_the_loop.get_future().get(), content_[last_]);
}

TEST_F(LazyBlobsTest, DoesNotTrustATreeWithAFalsifiedTop) {
  static_cast<void>(blobs_.map(blob_, {}, verity_));
  overwrite(tree_file(), fs::file_size(tree_file()) - 1);
  overwrite(cache_file(), last_);
  EXPECT_EQ(as_text(blobs_.map(blob_, {}, verity_).bytes()), content_);
  EXPECT_THAT(source_.reads(), SizeIs(2));
}

TEST_F(LazyBlobsTest, DoesNotTrustFalsifiedLeaves) {
  static_cast<void>(blobs_.map(blob_, {}, verity_));
  overwrite(tree_file(), 0);
  overwrite(cache_file(), 0);
  const auto blob = blobs_.map(blob_, {}, verity_);
  EXPECT_EQ(at(blob, last_), content_[last_]);
  EXPECT_EQ(blob.watch().state->load(), 0);
  EXPECT_EQ(at(blob, 0), '\0');
  EXPECT_EQ(blob.watch().state->load(), 1);
}

TEST_F(LazyBlobsTest, ADamagedTreeCostsNoByteOfTheBlob) {
  static_cast<void>(blobs_.map(blob_, {}, verity_));
  const auto right = text_of(tree_file());
  for (const auto place : {std::size_t{0}, right.size() / 2, right.size() - 1}) {
    overwrite(tree_file(), place);
    const auto blob = blobs_.map(blob_, {}, verity_);
    EXPECT_EQ(as_text(blob.bytes()), content_) << place;
    EXPECT_EQ(blob.watch().state->load(), 0) << place;
    EXPECT_EQ(text_of(tree_file()), right) << place;
  }
  EXPECT_THAT(source_.reads(), SizeIs(1));
}

TEST_F(LazyBlobsTest, UsesATreeThatItMayNotWrite) {
  static_cast<void>(blobs_.map(blob_, {}, verity_));
  overwrite(cache_file(), last_);
  const auto trees = tree_file().parent_path();
  if (::mount(trees.c_str(), trees.c_str(), nullptr, MS_BIND, nullptr) != 0)
    GTEST_SKIP() << "may not mount";
  const std::shared_ptr<void> mounted(nullptr,
                                      [&](void*) { ::umount2(trees.c_str(), MNT_DETACH); });
  EXPECT_EQ(::mount(nullptr, trees.c_str(), nullptr, MS_BIND | MS_REMOUNT | MS_RDONLY, nullptr), 0);
  const auto blob = blobs_.map(blob_, {}, verity_);
  EXPECT_EQ(at(blob, 0), content_[0]);
  EXPECT_THAT(source_.reads(), SizeIs(1)) << "without it all is hashed, and found wrong";
}

TEST_F(LazyBlobsTest, MakesATreeOfAnotherSizeAnew) {
  static_cast<void>(blobs_.map(blob_, {}, verity_));
  const auto right = text_of(tree_file());
  // What earlier releases kept: nothing but the leaves.
  const auto leaves = format::verity_blocks(as_bytes(content_)).size() * format::Digest::kSize;
  for (const auto size : {leaves, std::size_t{0}, right.size() - 1, right.size() + 1}) {
    fs::resize_file(tree_file(), size);
    EXPECT_EQ(as_text(blobs_.map(blob_, {}, verity_).bytes()), content_) << size;
    EXPECT_EQ(text_of(tree_file()), right) << size;
  }
  EXPECT_THAT(source_.reads(), SizeIs(1));
}

TEST_F(LazyBlobsTest, DoesNotBelieveAnFsVerityDigestThatIsNotTheBlobs) {
  const auto wrong = format::sha256({});
  EXPECT_EQ(as_text(blobs_.map(blob_, {}, wrong).bytes()), content_);
  EXPECT_FALSE(fs::exists(tree_file()));
  overwrite(cache_file(), last_);
  EXPECT_EQ(as_text(blobs_.map(blob_, {}, wrong).bytes()), content_);
}

TEST_F(LazyBlobsTest, WhatTheCacheDoesNotHaveAnyMoreIsFetched) {
  static_cast<void>(blobs_.map(blob_, {}, verity_));
  fs::remove(cache_file());
  EXPECT_EQ(as_text(blobs_.map(blob_, {}, verity_).bytes()), content_);
  EXPECT_THAT(source_.reads(), SizeIs(2));
}

TEST_F(LazyBlobsTest, RefusesABlobThatIsLargerThanAny) {
  auto huge = blob_;
  huge.size = std::uint64_t{1} << 62;
  EXPECT_THROW(blobs_.map(huge, {}, verity_), CorruptError);
}

TEST_F(LazyBlobsTest, WorksWithoutACache) {
  std::ofstream(temp_ / "file") << "no directory";
  Cache unusable(temp_ / "file");
  BlobStore store(runtime_, source_, &unusable);
  EXPECT_EQ(as_text(LazyBlobs(store, unusable).map(blob_, {}, verity_).bytes()), content_);
}

TEST_F(LazyBlobsTest, SaysWhichFileOfALayoutIsWrong) {
  auto layout = Layout::create(temp_ / "layout");
  layout.write_blob(blob_.digest, as_bytes(content_));
  BlobStore store(runtime_, layout, &cache_);
  LazyBlobs blobs(store, cache_);
  EXPECT_EQ(as_text(blobs.map(blob_, {}, verity_).bytes()), content_);
  EXPECT_FALSE(fs::exists(cache_file()));
  const auto path = layout.blob_path(blob_.digest);
  fs::permissions(path, fs::perms::owner_all);
  overwrite(path, last_);
  const auto blob = blobs.map(blob_, {}, verity_);
  EXPECT_EQ(at(blob, 0), content_[0]);
  EXPECT_EQ(at(blob, last_), '\0');
  EXPECT_THAT(blob.watch().on_damage, ThrowsMessage<CorruptError>(HasSubstr(path.native())));
}

}  // namespace
}  // namespace puzzlefs::fetch
