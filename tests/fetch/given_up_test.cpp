// What becomes of chunks of a packed image whose readers want them no more.
#include "fetch/given_up.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <future>
#include <optional>
#include <string>
#include <thread>

#include "fetch/chunk_store.h"
#include "manual_source.h"
#include "packed_image.h"

namespace puzzlefs::fetch {
namespace {

using format::ChunkIndex;
using ::testing::SizeIs;

constexpr std::size_t kSize = 20'000;
constexpr ChunkIndex kChunk{0};

class GivenUpTest : public ::testing::Test {
 protected:
  void SetUp() override {
    for (std::uint32_t i = 0; i < 3; ++i) {
      image_.add(noise(kSize, i));
      text_ += noise(kSize, i);
    }
    image_.finish(source_);
    blobs_.emplace(runtime_, source_, nullptr);
    packs_.emplace(runtime_, source_, image_.metadata());
    chunks_.emplace(runtime_, *blobs_, image_.metadata(), *packs_, ChunkStore::kDefaultMemoryLimit,
                    &stats_);
  }
  void TearDown() override {
    packs_->close();
    const auto end = std::async(std::launch::async, [this] {
      chunks_.reset();
      packs_.reset();
    });
    while (end.wait_for(std::chrono::milliseconds(1)) != std::future_status::ready) {
      source_.end_all();
    }
  }
  std::future<Outcome<ChunkData>> read(ReaderId reader, ChunkIndex index = kChunk) {
    const auto promise = std::make_shared<std::promise<Outcome<ChunkData>>>();
    chunks_->read(
        image_.piece(index),
        [promise](Outcome<ChunkData> outcome) { promise->set_value(std::move(outcome)); },
        Purpose::kReader, reader);
    return promise->get_future();
  }
  static bool has_come(const std::future<Outcome<ChunkData>>& answer) {
    return answer.wait_for(std::chrono::seconds(0)) == std::future_status::ready;
  }
  /// It may just be about to be begun.
  static void wait_until_cancelled(const ManualSource::Read& read) {
    while (!read.cancelled) std::this_thread::yield();
  }
  void answer(ManualSource::Read& read) const {
    read.on_bytes(0, as_bytes(text_));
    read.done(Done{});
  }

  const int one_ = 0;
  const int other_ = 0;
  std::string text_;
  ManualSource source_;
  PackedImage image_;
  FetchStats stats_;
  Runtime runtime_{1};
  std::optional<BlobStore> blobs_;
  std::optional<PackReader> packs_;
  std::optional<ChunkStore> chunks_;
};

TEST_F(GivenUpTest, TheRequestOfTheOnlyReaderIsCancelled) {
  auto given_up = read(&one_);
  auto& request = source_.wait_for_read(0);
  EXPECT_EQ(request.range.size, 3 * kSize) << "with what is read ahead";
  chunks_->give_up(&one_);
  ASSERT_TRUE(has_come(given_up)) << "whatever the network does";
  EXPECT_TRUE(is_given_up(given_up.get().error()));
  wait_until_cancelled(request);
  const auto waited = stats_.snapshot().time_waited;
  EXPECT_EQ(stats_.snapshot().time_waited, waited) << "nobody waits";
  EXPECT_EQ(stats_.snapshot().chunks_failed, 1U);
}

TEST_F(GivenUpTest, AnotherReaderOfTheSameChunkDoesNotNotice) {
  auto given_up = read(&one_);
  auto wanted = read(&other_);
  auto& request = source_.wait_for_read(0);
  chunks_->give_up(&one_);
  EXPECT_TRUE(is_given_up(given_up.get().error()));
  EXPECT_FALSE(request.cancelled);
  EXPECT_FALSE(has_come(wanted));
  answer(request);
  EXPECT_EQ(as_text(*wanted.get().value()), noise(kSize, 0));
  EXPECT_THAT(source_.reads, SizeIs(1));
}

TEST_F(GivenUpTest, NeitherDoesOneOfAnotherChunkOfTheRequest) {
  auto given_up = read(&one_);
  auto& request = source_.wait_for_read(0);
  auto wanted = read(&other_, ChunkIndex{1});
  chunks_->give_up(&one_);
  EXPECT_FALSE(request.cancelled);
  answer(request);
  EXPECT_EQ(as_text(*wanted.get().value()), noise(kSize, 1));
}

TEST_F(GivenUpTest, WhoComesAfterwardsIsServedByAnotherRequest) {
  auto given_up = read(&one_);
  auto& request = source_.wait_for_read(0);
  chunks_->give_up(&one_);
  wait_until_cancelled(request);
  auto wanted = read(&other_);  // before the cancelled request has ended
  request.end();
  answer(source_.wait_for_read(1));
  EXPECT_EQ(as_text(*wanted.get().value()), noise(kSize, 0));
  EXPECT_THAT(source_.reads, SizeIs(2));
}

TEST_F(GivenUpTest, AReaderGivesUpAllThatHeWaitsFor) {
  auto first = read(&one_);
  auto& request = source_.wait_for_read(0);
  auto second = read(&one_, ChunkIndex{2});
  chunks_->give_up(&one_);
  EXPECT_TRUE(is_given_up(first.get().error()));
  EXPECT_TRUE(is_given_up(second.get().error()));
  wait_until_cancelled(request);
}

TEST_F(GivenUpTest, WhatAStartNeedsIsFetchedAllTheSame) {
  std::promise<std::size_t> failed;
  auto given_up = read(&one_);
  auto& request = source_.wait_for_read(0);
  chunks_->prefetch({kChunk}, Priority::kPrefetch,
                    [&](Outcome<std::size_t> outcome) { failed.set_value(outcome.value()); });
  // The only worker has come to it then.
  wait_for<std::size_t>([&](auto done) { chunks_->prefetch({}, Priority::kPrefetch, done); });
  chunks_->give_up(&one_);
  EXPECT_TRUE(is_given_up(given_up.get().error()));
  answer(request);
  EXPECT_EQ(failed.get_future().get(), 0U);
}

TEST_F(GivenUpTest, WhoGivesUpIsAnsweredWhateverHasBeenDoneForHim) {
  for (int i = 0; i < 1000; ++i) {
    auto given_up = read(&one_);
    chunks_->give_up(&one_);
    EXPECT_TRUE(is_given_up(given_up.get().error()));
    if (i % 10 == 0) source_.end_all();
  }
  auto wanted = read(&other_);
  while (!has_come(wanted)) {
    source_.answer_all(text_);
    std::this_thread::yield();
  }
  EXPECT_EQ(as_text(*wanted.get().value()), noise(kSize, 0));
}

}  // namespace
}  // namespace puzzlefs::fetch
