// What is counted when chunks are read.
#include "fetch/fetch_stats.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <future>
#include <memory>
#include <thread>

#include "../support/scripted_server.h"
#include "../support/temp_dir.h"
#include "fetch/cache.h"
#include "fetch/chunk_store.h"
#include "fetch/http_client.h"
#include "memory_source.h"

namespace puzzlefs::fetch {
namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

void spin(std::chrono::milliseconds time) {
  const auto end = Clock::now() + time;
  while (Clock::now() < end) std::this_thread::yield();
}

TEST(FetchStatsTest, WaitingAtTheSameTimeDoesNotTakeLonger) {
  FetchStats stats;
  const auto start = Clock::now();
  {
    const auto one = stats.begin_waiting();
    const auto other = stats.begin_waiting();
    spin(2ms);
  }
  const auto waited = stats.snapshot().time_waited;
  EXPECT_GE(waited, 2ms);
  EXPECT_LE(waited, Clock::now() - start);
}

TEST(FetchStatsTest, WaitsAddUpAndPausesBetweenThemDoNotCount) {
  FetchStats stats;
  { const auto waiting = stats.begin_waiting(); }
  const auto first = stats.snapshot().time_waited;
  spin(2ms);
  EXPECT_EQ(stats.snapshot().time_waited, first);
  {
    const auto waiting = stats.begin_waiting();
    spin(1ms);
  }
  EXPECT_GE(stats.snapshot().time_waited, first + 1ms);
}

TEST(FetchStatsTest, AWaitCountsWhileItLasts) {
  FetchStats stats;
  const auto waiting = stats.begin_waiting();
  const auto before = stats.snapshot().time_waited;
  spin(1ms);
  EXPECT_GE(stats.snapshot().time_waited, before + 1ms);
}

TEST(FetchStatsTest, OpeningTakesWhatWasFetchedUntilThen) {
  FetchStats stats;
  stats.add_fetched(10);
  stats.mark_opened();
  stats.add_fetched(5);
  EXPECT_EQ(stats.snapshot(), (FetchCounts{.bytes_fetched = 15, .bytes_fetched_to_open = 10}));
}

/// Chunks of a manifest, read by readers unless said otherwise.
class CountedChunksTest : public testing::Test {
 protected:
  format::ChunkRef add(std::string_view content) {
    manifest_.layers.push_back(source_.add(content));
    const auto& blob = manifest_.layers.back();
    return {.blob = blob.digest, .offset = 0, .size = blob.size, .compressed = false};
  }
  void open(Cache* cache = nullptr) {
    chunks_.reset();
    blobs_ = std::make_unique<BlobStore>(runtime_, source_, cache);
    chunks_ = std::make_unique<ChunkStore>(*blobs_, manifest_, 1 << 20, &stats_);
  }
  std::future<Outcome<ChunkData>> ask(const format::ChunkRef& piece,
                                      Purpose purpose = Purpose::kReader) {
    auto promise = std::make_shared<std::promise<Outcome<ChunkData>>>();
    chunks_->read(
        piece, [promise](Outcome<ChunkData> outcome) { promise->set_value(std::move(outcome)); },
        purpose);
    return promise->get_future();
  }
  void read(const format::ChunkRef& piece, Purpose purpose = Purpose::kReader) {
    ask(piece, purpose).get().value();
  }
  /// Without the time, which is never the same.
  FetchCounts counts() const {
    auto counts = stats_.snapshot();
    counts.time_waited = {};
    return counts;
  }
  std::chrono::nanoseconds waited() const { return stats_.snapshot().time_waited; }
  void wait_until_it_is_waited_for() const {
    while (waited() == 0ns) std::this_thread::yield();
  }

  MemorySource source_;
  format::Manifest manifest_;
  FetchStats stats_;
  Runtime runtime_{4};
  std::unique_ptr<BlobStore> blobs_;
  std::unique_ptr<ChunkStore> chunks_;
};

TEST_F(CountedChunksTest, AChunkIsNeededOnceAndReadWhereItWas) {
  const auto piece = add("content");
  open();
  read(piece);
  EXPECT_EQ(counts(), (FetchCounts{.bytes_needed = 7, .chunks_from_network = 1}));
  const auto first = waited();
  EXPECT_GT(first, 0ns);
  read(piece);
  read(piece);
  EXPECT_EQ(counts(),
            (FetchCounts{.bytes_needed = 7, .chunks_from_memory = 2, .chunks_from_network = 1}));
  EXPECT_EQ(waited(), first);
}

TEST_F(CountedChunksTest, WhatTheCacheHasComesFromTheDisk) {
  const test::TempDir directory;
  Cache cache(directory.path());
  const auto piece = add("content");
  cache.write(piece.blob, as_bytes("content"));
  open(&cache);
  read(piece);
  EXPECT_EQ(counts(), (FetchCounts{.bytes_needed = 7, .chunks_from_disk = 1}));
  EXPECT_EQ(waited(), 0ns);
}

TEST_F(CountedChunksTest, AllWhoWaitForAChunkAreCounted) {
  const auto piece = add("content");
  open();
  source_.hold();
  auto one = ask(piece);
  auto other = ask(piece);
  wait_until_it_is_waited_for();
  source_.release();
  one.get();
  other.get();
  EXPECT_EQ(counts(), (FetchCounts{.bytes_needed = 7, .chunks_from_network = 2}));
}

TEST_F(CountedChunksTest, WhatCannotBeHadIsCountedAsSuch) {
  const auto piece = add("content");
  source_.answer_next(std::make_exception_ptr(NotFoundError("It has gone.")));
  open();
  EXPECT_FALSE(ask(piece).get().ok());
  EXPECT_EQ(counts(), (FetchCounts{.bytes_needed = 7, .chunks_failed = 1}));
}

TEST_F(CountedChunksTest, HousekeepingIsNotCountedUntilAReaderComes) {
  const auto piece = add("content");
  open();
  read(piece, Purpose::kBackground);
  EXPECT_EQ(counts(), FetchCounts());
  EXPECT_EQ(waited(), 0ns);
  read(piece);
  EXPECT_EQ(counts(), (FetchCounts{.bytes_needed = 7, .chunks_from_memory = 1}));
}

TEST_F(CountedChunksTest, AReaderWhoComesLaterWaitsFromThen) {
  const auto piece = add("content");
  open();
  source_.hold();
  auto background = ask(piece, Purpose::kBackground);
  while (source_.reads().empty()) std::this_thread::yield();
  EXPECT_EQ(waited(), 0ns);
  auto reader = ask(piece);
  wait_until_it_is_waited_for();
  source_.release();
  reader.get();
  background.get();
  EXPECT_EQ(counts(), (FetchCounts{.bytes_needed = 7, .chunks_from_network = 1}));
}

/// What requests add.
class CountedRequestsTest : public testing::Test {
 protected:
  bool send(const std::string& url) {
    std::promise<bool> ok;
    client_.send({.url = url},
                 [&](const Outcome<HttpResponse>& outcome) { ok.set_value(outcome.ok()); });
    return ok.get_future().get();
  }

  FetchStats stats_;
  Runtime runtime_{2};
  HttpClient client_{runtime_, {.stats = &stats_}};
};

TEST_F(CountedRequestsTest, AnswersCountWhateverTheirStatus) {
  test::ScriptedServer server([](const test::ServedRequest& request) {
    return request.target == "/a" ? test::Reply{.body = "12345"}
                                  : test::Reply{.status = 404, .body = "123"};
  });
  EXPECT_TRUE(send(server.url("/a")));
  EXPECT_TRUE(send(server.url("/b")));
  EXPECT_EQ(stats_.snapshot(), (FetchCounts{.requests = 2, .bytes_fetched = 8}));
}

TEST_F(CountedRequestsTest, AnAnswerThatIsCutShortCounts) {
  test::ScriptedServer server([](const test::ServedRequest&) {
    return test::Reply{.body = "12345", .ending = test::Reply::Ending::kReset, .body_sent = 2};
  });
  EXPECT_FALSE(send(server.url("/")));
  EXPECT_EQ(stats_.snapshot().requests, 1U);
}

TEST_F(CountedRequestsTest, WhereNobodyAnswersThereIsNoRequest) {
  test::ScriptedServer server([](const test::ServedRequest&) { return test::Reply{}; });
  EXPECT_TRUE(send(server.url("/")));  // its handle is used again
  EXPECT_FALSE(send("http://127.0.0.1:" + std::to_string(test::free_port()) + "/"));
  EXPECT_EQ(stats_.snapshot(), FetchCounts{.requests = 1});
}

}  // namespace
}  // namespace puzzlefs::fetch
