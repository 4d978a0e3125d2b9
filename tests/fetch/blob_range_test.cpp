// Stretches of blobs, as they come: in order, none of it twice, whatever servers do.
#include "fetch/blob_range.h"

#include <fmt/chrono.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <condition_variable>
#include <ctime>
#include <fstream>
#include <future>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "../support/scripted_server.h"
#include "../support/temp_dir.h"
#include "fetch/layout.h"
#include "fetch/offline_source.h"
#include "fetch/registry.h"
#include "fetch/runtime.h"
#include "served_blob.h"

namespace puzzlefs::fetch {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using test::content_range;
using test::cut;
using test::descriptor;
using test::is_blob;
using test::kBlob;
using test::Reply;
using test::ScriptedServer;
using test::serve;
using test::ServedRequest;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::ThrowsMessage;

/// What came of one ranged read.
class Reader : public std::enable_shared_from_this<Reader> {
 public:
  RangeReceiver receiver() {
    return [self = shared_from_this()](std::uint64_t offset, ByteView bytes) {
      self->take(offset, bytes);
    };
  }
  Completion<Done> completion() {
    return [self = shared_from_this()](Outcome<Done> outcome) {
      self->outcome_.set_value(std::move(outcome));
    };
  }

  void wait_for_bytes(std::size_t count) {
    std::unique_lock lock(mutex_);
    EXPECT_TRUE(changed_.wait_for(lock, seconds(60), [&] { return bytes_.size() >= count; }));
  }
  /// Throws what the read failed with.
  void wait() { future_.get().value(); }
  bool is_over() const { return future_.wait_for(seconds(0)) == std::future_status::ready; }
  /// Where the first byte lay, and all that came from there on.
  std::uint64_t first() const { return first_; }
  std::string bytes() {
    const std::lock_guard lock(mutex_);
    return bytes_;
  }
  /// Whether all of it came where the last had ended.
  bool in_order() const { return in_order_; }

 private:
  void take(std::uint64_t offset, ByteView bytes) {
    const std::lock_guard lock(mutex_);
    if (bytes_.empty()) first_ = offset;
    in_order_ = in_order_ && offset == first_ + bytes_.size();
    bytes_ += as_text(bytes);
    changed_.notify_all();
  }

  std::mutex mutex_;  // guards the next four, while the read is not over
  std::condition_variable changed_;
  std::uint64_t first_ = 0;
  std::string bytes_;
  bool in_order_ = true;
  std::promise<Outcome<Done>> outcome_;
  std::future<Outcome<Done>> future_ = outcome_.get_future();
};

class BlobRangeTest : public testing::Test {
 protected:
  /// `answer` gets the requests for blobs, with their number.
  void connect(std::function<Reply(const ServedRequest&, int)> answer) {
    server_ = std::make_unique<ScriptedServer>(
        [answer = std::move(answer), number = 0](const ServedRequest& request) mutable {
          if (!is_blob(request)) return Reply{};
          return answer(request, number++);
        });
    open();
  }
  /// The registry at `server_`, by way of `mirror` if there is one.
  void open(const std::string& mirror = {}) {
    const auto file = directory_ / "registries.conf";
    std::ofstream text(file);
    text << "[[registry]]\nlocation = \"" << server_->host() << "\"\n";
    if (!mirror.empty()) text << "[[registry.mirror]]\nlocation = \"" << mirror << "/cache\"\n";
    text.close();
    RegistryOptions options{.deadline = deadline_};
    options.registries = RegistriesConf::read({file});
    registry_ = std::make_unique<Registry>(
        client_, format::parse_registry_name(server_->host() + "/team/app:1"),
        Registry::Access::kPull, options);
  }

  std::shared_ptr<Reader> start(ByteRange range, Freshness freshness = Freshness::kAny) {
    auto reader = std::make_shared<Reader>();
    handle_ =
        registry_->read_range(blob_, range, freshness, reader->receiver(), reader->completion());
    return reader;
  }
  std::shared_ptr<Reader> read(ByteRange range, Freshness freshness = Freshness::kAny) {
    auto reader = start(range, freshness);
    reader->wait();
    return reader;
  }
  /// Whether exactly the range came.
  static testing::AssertionResult is_exact(Reader& reader, ByteRange range) {
    if (!reader.in_order()) return testing::AssertionFailure() << "not in order";
    if (reader.first() != range.offset) {
      return testing::AssertionFailure() << "from " << reader.first();
    }
    if (reader.bytes() == kBlob.substr(range.offset, range.size))
      return testing::AssertionSuccess();
    return testing::AssertionFailure() << reader.bytes().size() << " bytes, perhaps wrong ones";
  }

  /// The Range of each request for the blob.
  static std::vector<std::string> ranges_of(const ScriptedServer& server) {
    std::vector<std::string> result;
    for (const auto& request : server.requests()) {
      if (is_blob(request)) result.push_back(request.header("range"));
    }
    return result;
  }
  std::vector<std::string> ranges() const { return ranges_of(*server_); }

  test::TempDir directory_;
  seconds deadline_{10};
  format::Descriptor blob_ = descriptor();
  Runtime runtime_{2};
  HttpClient client_{runtime_};
  std::unique_ptr<ScriptedServer> server_;
  std::unique_ptr<Registry> registry_;
  std::shared_ptr<RangeRead> handle_;
};

const ByteRange kMiddle{10'000, 40'000};

TEST_F(BlobRangeTest, GivesWhatWasAskedForByOneRequest) {
  connect([](const ServedRequest& request, int) { return serve(request); });
  EXPECT_TRUE(is_exact(*read(kMiddle), kMiddle));
  EXPECT_THAT(ranges(), ElementsAre("bytes=10000-49999"));
  EXPECT_EQ(server_->requests().back().header("cache-control"), "");
}

TEST_F(BlobRangeTest, TheWholeBlobIsNoRangeForTheServer) {
  connect([](const ServedRequest& request, int) { return serve(request); });
  const ByteRange all{0, kBlob.size()};
  EXPECT_TRUE(is_exact(*read(all), all));
  EXPECT_THAT(ranges(), ElementsAre(""));
}

TEST_F(BlobRangeTest, PassesCachesOnDemand) {
  connect([](const ServedRequest& request, int) { return serve(request); });
  EXPECT_TRUE(is_exact(*read(kMiddle, Freshness::kBypass), kMiddle));
  EXPECT_EQ(server_->requests().back().header("cache-control"), "no-cache");
}

TEST_F(BlobRangeTest, NothingIsAskedForWhereNothingIsWanted) {
  connect([](const ServedRequest& request, int) { return serve(request); });
  EXPECT_EQ(read({10'000, 0})->bytes(), "");
  EXPECT_TRUE(server_->requests().empty());
}

TEST_F(BlobRangeTest, ARangeBeyondTheBlobIsCorrupt) {
  connect([](const ServedRequest& request, int) { return serve(request); });
  for (const ByteRange beyond : {ByteRange{kBlob.size() - 1, 2}, ByteRange{kBlob.size() + 1, 0},
                                 ByteRange{1, std::uint64_t(-1)}}) {
    EXPECT_THAT([&] { read(beyond); },
                ThrowsMessage<CorruptError>(HasSubstr(blob_.digest.to_string())));
  }
  EXPECT_TRUE(server_->requests().empty());
}

TEST_F(BlobRangeTest, GoesOnFromTheLastByteThatCame) {
  connect([](const ServedRequest& request, int number) {
    return number < 2 ? cut(serve(request), 10'000) : serve(request);
  });
  EXPECT_TRUE(is_exact(*read(kMiddle), kMiddle));
  EXPECT_THAT(ranges(), ElementsAre("bytes=10000-49999", "bytes=20000-49999", "bytes=30000-49999"));
}

TEST_F(BlobRangeTest, GoesOnAtTheNextServer) {
  ScriptedServer mirror([](const ServedRequest& request) {
    return is_blob(request) ? cut(serve(request), 10'000) : Reply{};
  });
  connect([](const ServedRequest& request, int) { return serve(request); });
  open(mirror.host());
  EXPECT_TRUE(is_exact(*read(kMiddle), kMiddle));
  EXPECT_THAT(ranges_of(mirror), ElementsAre("bytes=10000-49999"));
  EXPECT_THAT(ranges(), ElementsAre("bytes=20000-49999"));
}

TEST_F(BlobRangeTest, BytesComeBeforeTheAnswerIsComplete) {
  connect([](const ServedRequest& request, int) {
    auto reply = cut(serve(request), 15'000);
    reply.ending = Reply::Ending::kStall;
    return reply;
  });
  const auto reader = start(kMiddle);
  reader->wait_for_bytes(15'000);
  EXPECT_FALSE(reader->is_over());
  handle_->cancel();
  EXPECT_THROW(reader->wait(), UnavailableError);
}

TEST_F(BlobRangeTest, AnEndWithoutAnAnnouncedLengthNeedsNoFurtherRequest) {
  deadline_ = seconds(2);
  connect([](const ServedRequest& request, int) {
    auto reply = serve(request);
    reply.headers.emplace_back("Transfer-Encoding", "chunked");
    reply.body = fmt::format("{:x}\r\n{}\r\n", reply.body.size(), reply.body);
    reply.ending = Reply::Ending::kStall;
    return reply;
  });
  EXPECT_TRUE(is_exact(*read(kMiddle), kMiddle));
  EXPECT_EQ(ranges().size(), 1U);
}

TEST_F(BlobRangeTest, AServerWithoutRangesGivesTheWholeBlob) {
  connect([](const ServedRequest&, int) { return Reply{.body = kBlob}; });
  EXPECT_TRUE(is_exact(*read(kMiddle), {0, kBlob.size()}));
  EXPECT_THAT(ranges(), ElementsAre("bytes=10000-49999"));
}

TEST_F(BlobRangeTest, OfAWholeBlobThatBrokeOffOnlyTheRestIsGiven) {
  connect([](const ServedRequest&, int number) {
    const Reply whole{.body = kBlob};
    return number == 0 ? cut(whole, 5'000) : number == 1 ? cut(whole, 20'000) : whole;
  });
  EXPECT_TRUE(is_exact(*read(kMiddle), {0, kBlob.size()}));
  EXPECT_THAT(ranges(), ElementsAre("bytes=10000-49999", "bytes=5000-49999", "bytes=20000-49999"));
}

TEST_F(BlobRangeTest, OfAWholeBlobAfterAPartOnlyTheRestIsGiven) {
  connect([](const ServedRequest& request, int number) {
    return number == 0 ? cut(serve(request), 5'000) : Reply{.body = kBlob};
  });
  EXPECT_TRUE(is_exact(*read(kMiddle), {10'000, kBlob.size() - 10'000}));
  EXPECT_THAT(ranges(), ElementsAre("bytes=10000-49999", "bytes=15000-49999"));
}

TEST_F(BlobRangeTest, AWholeBlobThatBreaksOffBeyondTheRangeIsEnough) {
  connect([](const ServedRequest&, int) { return cut({.body = kBlob}, 50'000); });
  EXPECT_TRUE(is_exact(*read(kMiddle), {0, 50'000}));
  EXPECT_EQ(ranges().size(), 1U);
}

TEST_F(BlobRangeTest, APartThatWasNotAskedForIsNotUsed) {
  const auto size = kBlob.size();
  for (const auto& wrong :
       {content_range(0, 49'999, size), content_range(10'001, 49'999, size),
        content_range(10'000, 50'000, size), content_range(10'000, 49'999, size + 1),
        content_range(10'000, size, size), std::string("bytes */1"), std::string("bytes 10000-"),
        std::string("lines 10000-49999/65536"), std::string()}) {
    connect([&](const ServedRequest& request, int number) {
      auto reply = serve(request);
      if (number == 0) reply.headers.at(0).second = wrong;
      return reply;
    });
    EXPECT_TRUE(is_exact(*read(kMiddle), {0, size})) << wrong;
    EXPECT_THAT(ranges(), ElementsAre("bytes=10000-49999", "")) << wrong;
  }
}

TEST_F(BlobRangeTest, AWrongPartIsMadeUpForByTheNextServer) {
  ScriptedServer mirror([](const ServedRequest& request) {
    if (!is_blob(request)) return Reply{};
    auto reply = serve(request);
    reply.headers.at(0).second = content_range(0, 39'999, kBlob.size());
    return reply;
  });
  connect([](const ServedRequest& request, int) { return serve(request); });
  open(mirror.host());
  EXPECT_TRUE(is_exact(*read(kMiddle), kMiddle));
  EXPECT_THAT(ranges_of(mirror), ElementsAre("bytes=10000-49999"));
  EXPECT_THAT(ranges(), ElementsAre("bytes=10000-49999"));
}

TEST_F(BlobRangeTest, AShorterPartIsGoneOnFrom) {
  connect([](const ServedRequest& request, int number) {
    if (number > 0) return serve(request);
    return Reply{.status = 206,
                 .headers = {{"Content-Range", content_range(10'000, 19'999, kBlob.size())}},
                 .body = kBlob.substr(10'000, 10'000)};
  });
  EXPECT_TRUE(is_exact(*read(kMiddle), kMiddle));
  EXPECT_THAT(ranges(), ElementsAre("bytes=10000-49999", "bytes=20000-49999"));
}

TEST_F(BlobRangeTest, MoreThanWasAnnouncedIsNotTaken) {
  connect([](const ServedRequest& request, int number) {
    auto reply = serve(request);
    if (number == 0) reply.body += "more";
    return reply;
  });
  const auto reader = read(kMiddle);
  EXPECT_TRUE(reader->in_order());
  EXPECT_EQ(reader->bytes(), kBlob.substr(reader->first()).substr(0, reader->bytes().size()));
  EXPECT_EQ(ranges().size(), 2U);
}

TEST_F(BlobRangeTest, ABlobThatEndsBeforeTheRangeIsCorrupt) {
  connect([](const ServedRequest&, int) {
    return Reply{.status = 416, .headers = {{"Content-Range", "bytes */9000"}}};
  });
  EXPECT_THAT([&] { read(kMiddle); },
              ThrowsMessage<CorruptError>(
                  AllOf(HasSubstr(blob_.digest.to_string()), HasSubstr("9000"),
                        HasSubstr(std::to_string(kBlob.size())), HasSubstr(server_->host()))));
  EXPECT_EQ(ranges().size(), 1U);
}

TEST_F(BlobRangeTest, AMirrorWithAShorterBlobIsMadeUpFor) {
  ScriptedServer mirror([](const ServedRequest& request) {
    return is_blob(request) ? Reply{.status = 416} : Reply{};
  });
  connect([](const ServedRequest& request, int) { return serve(request); });
  open(mirror.host());
  EXPECT_TRUE(is_exact(*read(kMiddle), kMiddle));
  EXPECT_EQ(ranges_of(mirror).size(), 1U);
}

TEST_F(BlobRangeTest, AWholeBlobThatEndsWithinTheRangeIsCorrupt) {
  connect([](const ServedRequest&, int) { return Reply{.body = kBlob.substr(0, 20'000)}; });
  EXPECT_THAT(
      [&] { read(kMiddle); },
      ThrowsMessage<CorruptError>(AllOf(HasSubstr(blob_.digest.to_string()), HasSubstr("20000"))));
}

TEST_F(BlobRangeTest, ABlobThatIsNotThereIsNotFound) {
  connect([](const ServedRequest&, int) { return Reply{.status = 404, .body = "none of it"}; });
  const auto reader = start(kMiddle);
  EXPECT_THROW(reader->wait(), NotFoundError);
  EXPECT_EQ(reader->bytes(), "");
}

TEST_F(BlobRangeTest, CredentialsAreRenewedInBetween) {
  server_ =
      std::make_unique<ScriptedServer>([this, first = true](const ServedRequest& request) mutable {
        if (request.target.starts_with("/token")) return Reply{.body = R"({"token":"t"})"};
        if (request.header("authorization").empty() || std::exchange(first, false)) {
          return Reply{
              .status = 401,
              .headers = {{"WWW-Authenticate", "Bearer realm=\"" + server_->url("/token") + "\""}},
              .body = "not for you"};
        }
        return serve(request);
      });
  open();
  EXPECT_TRUE(is_exact(*read(kMiddle), kMiddle));
  EXPECT_THAT(ranges(), ElementsAre("bytes=10000-49999", "bytes=10000-49999"));
  EXPECT_EQ(server_->count("GET", "/token"), 2U);
}

TEST_F(BlobRangeTest, IsRedirectedOnce) {
  ScriptedServer storage([number = 0](const ServedRequest& request) mutable {
    return number++ == 0 ? cut(serve(request), 5'000) : serve(request);
  });
  connect([&](const ServedRequest&, int) {
    const auto location = fmt::format("/x?X-Amz-Date={:%Y%m%dT%H%M%SZ}&X-Amz-Expires=600",
                                      fmt::gmtime(std::time(nullptr)));
    return Reply{.status = 307, .headers = {{"Location", storage.url(location)}}, .body = "there"};
  });
  EXPECT_TRUE(is_exact(*read(kMiddle), kMiddle));
  EXPECT_TRUE(is_exact(*read({0, 5}), {0, 5}));
  EXPECT_EQ(ranges().size(), 1U);
  ASSERT_EQ(storage.requests().size(), 3U);
  EXPECT_EQ(storage.requests().at(1).header("range"), "bytes=15000-49999");
  EXPECT_EQ(storage.requests().at(2).header("range"), "bytes=0-4");
}

TEST_F(BlobRangeTest, AfterTheDeadlineItIsUnavailable) {
  deadline_ = seconds(3);
  connect([](const ServedRequest&, int) { return Reply{.status = 503}; });
  EXPECT_THROW(read(kMiddle), UnavailableError);
  EXPECT_GT(ranges().size(), 1U);
}

TEST_F(BlobRangeTest, ACancelledReadWaitsForNoFurtherTry) {
  deadline_ = seconds(60);
  connect([](const ServedRequest&, int) {
    return Reply{.status = 503, .headers = {{"Retry-After", "30"}}};
  });
  const auto reader = start(kMiddle);
  server_->wait_for_requests(2);  // with the greeting
  handle_->cancel();
  const auto begun = std::chrono::steady_clock::now();
  EXPECT_THROW(reader->wait(), UnavailableError);
  EXPECT_LT(std::chrono::steady_clock::now() - begun, seconds(5));
  handle_->cancel();
  handle_->set_paused(true);
}

/// More than the kernel keeps for a receiver who does not take it.
class LargeRangeTest : public BlobRangeTest {
 protected:
  LargeRangeTest() {
    blob_ = descriptor(large_);
    connect([this](const ServedRequest& request, int) { return test::serve_of(large_, request); });
  }
  /// What the server has sent, once that does not grow for a while.
  std::uint64_t settled() const {
    auto sent = server_->sent();
    for (int same = 0; same < 5;) {
      std::this_thread::sleep_for(milliseconds(50));
      same = sent == server_->sent() ? same + 1 : 0;
      sent = server_->sent();
    }
    return sent;
  }

  const std::string large_ = std::string(64 << 20, 'x') + "the end";
  const ByteRange range_{1, large_.size() - 2};
};

TEST_F(LargeRangeTest, APauseStopsTheServer) {
  auto reader = std::make_shared<Reader>();
  std::promise<RangeRead*> promise;
  const auto future = promise.get_future().share();
  // From where bytes come, so that it takes effect at once.
  handle_ = registry_->read_range(
      blob_, range_, Freshness::kAny,
      [future, take = reader->receiver(), first = true](auto offset, auto bytes) mutable {
        if (std::exchange(first, false)) future.get()->set_paused(true);
        take(offset, bytes);
      },
      reader->completion());
  promise.set_value(handle_.get());
  reader->wait_for_bytes(1);
  EXPECT_LT(settled(), large_.size() / 2);
  const auto taken = reader->bytes().size();
  EXPECT_LE(taken, 128U << 10);
  EXPECT_FALSE(reader->is_over());
  handle_->set_paused(false);
  reader->wait();
  EXPECT_TRUE(reader->in_order());
  EXPECT_EQ(reader->bytes(), large_.substr(range_.offset, range_.size));
  EXPECT_EQ(ranges().size(), 1U);
}

TEST_F(LargeRangeTest, ALongPauseIsNoStall) {
  deadline_ = seconds(8);  // a sanitized server takes its time to begin
  open();
  const auto reader = start(range_);
  reader->wait_for_bytes(1);
  handle_->set_paused(true);
  std::this_thread::sleep_for(milliseconds(9000));
  EXPECT_FALSE(reader->is_over());
  handle_->set_paused(false);
  reader->wait();
  EXPECT_EQ(reader->bytes().size(), range_.size);
  EXPECT_EQ(ranges().size(), 1U);
}

TEST_F(LargeRangeTest, CancellingEndsTheConversation) {
  for (const bool paused : {false, true}) {
    const auto before = ranges().size();
    const auto reader = start(range_);
    handle_->set_paused(paused);
    if (!paused) reader->wait_for_bytes(1);
    handle_->cancel();
    EXPECT_THROW(reader->wait(), UnavailableError);
    const auto come = reader->bytes().size();
    EXPECT_LT(come, range_.size) << paused;
    settled();
    EXPECT_EQ(reader->bytes().size(), come) << paused;
    EXPECT_LE(ranges().size(), before + 1) << paused;
  }
}

TEST_F(LargeRangeTest, OthersHaveTheLinkMeanwhile) {
  const auto reader = start(range_);
  reader->wait_for_bytes(1);
  const auto held = handle_;
  held->set_paused(true);
  EXPECT_EQ(read({5, 10})->bytes(), std::string(10, 'x'));
  held->set_paused(false);
  reader->wait();
  EXPECT_EQ(reader->bytes().size(), range_.size);
}

TEST_F(LargeRangeTest, ClosingTheClientEndsIt) {
  const auto reader = start(range_);
  handle_->set_paused(true);
  server_->wait_for_requests(2);
  client_.close();
  EXPECT_THROW(reader->wait(), UnavailableError);
  handle_->set_paused(false);
  handle_->cancel();
}

class LayoutRangeTest : public testing::Test {
 protected:
  LayoutRangeTest() { layout_.write_blob(blob_.digest, as_bytes(text_)); }
  std::shared_ptr<Reader> read(ByteRange range) {
    auto reader = std::make_shared<Reader>();
    handle_ =
        layout_.read_range(blob_, range, Freshness::kAny, reader->receiver(), reader->completion());
    return reader;
  }

  const std::string text_ = std::string(3 << 20, 'y') + kBlob;
  const format::Descriptor blob_ = descriptor(text_);
  test::TempDir temp_;
  Layout layout_ = Layout::create(temp_ / "image");
  std::shared_ptr<RangeRead> handle_;
};

TEST_F(LayoutRangeTest, GivesItAtOnce) {
  const ByteRange range{100, text_.size() - 200};
  const auto reader = read(range);
  ASSERT_TRUE(reader->is_over());
  reader->wait();
  EXPECT_EQ(reader->first(), 100U);
  EXPECT_TRUE(reader->in_order());
  EXPECT_EQ(reader->bytes(), text_.substr(range.offset, range.size));
  handle_->set_paused(true);
  handle_->cancel();
}

TEST_F(LayoutRangeTest, AShorterFileIsCorrupt) {
  std::filesystem::resize_file(layout_.blob_path(blob_.digest), 50);
  EXPECT_THAT(
      [&] {
        read({100, 10})->wait();
      },
      ThrowsMessage<CorruptError>(
          AllOf(HasSubstr(layout_.blob_path(blob_.digest)), HasSubstr("50"))));
  EXPECT_THROW(read({text_.size(), 1})->wait(), CorruptError);
}

TEST_F(LayoutRangeTest, AMissingFileIsNotFound) {
  std::filesystem::remove(layout_.blob_path(blob_.digest));
  EXPECT_THROW(read({100, 10})->wait(), NotFoundError);
}

TEST(OfflineRange, IsUnavailable) {
  OfflineSource source(format::parse_registry_name("registry.example/app"));
  const auto reader = std::make_shared<Reader>();
  EXPECT_NE(source.read_range(descriptor(), kMiddle, Freshness::kAny, reader->receiver(),
                              reader->completion()),
            nullptr);
  EXPECT_THROW(reader->wait(), UnavailableError);
  EXPECT_EQ(reader->bytes(), "");
}

}  // namespace
}  // namespace puzzlefs::fetch
