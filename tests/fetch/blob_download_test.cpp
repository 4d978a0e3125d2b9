// Downloads that break off, and redirects that are remembered: what is asked for, and of whom.
#include "fetch/blob_download.h"

#include <fmt/chrono.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <ctime>
#include <memory>
#include <string>

#include "../support/scripted_server.h"
#include "fetch/registry.h"
#include "fetch/runtime.h"
#include "served_blob.h"

namespace puzzlefs::fetch {
namespace {

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
using testing::ElementsAre;
using testing::HasSubstr;

class BlobDownloadTest : public testing::Test {
 protected:
  /// `answer` gets the requests for blobs, with their number.
  void connect(std::function<Reply(const ServedRequest&, int)> answer) {
    server_ = std::make_unique<ScriptedServer>(
        [answer = std::move(answer), number = 0](const ServedRequest& request) mutable {
          if (!is_blob(request)) return Reply{};
          return answer(request, number++);
        });
    registry_ = std::make_unique<Registry>(
        client_, format::parse_registry_name(server_->host() + "/team/app:1"),
        Registry::Access::kPull, RegistryOptions{.deadline = deadline_});
  }

  std::string read(Freshness freshness = Freshness::kAny) {
    const auto bytes = wait_for<Bytes>(
        [&](auto done) { registry_->read(descriptor(), freshness, std::move(done)); });
    return std::string(as_text(bytes));
  }

  /// The Range of each request for the blob.
  std::vector<std::string> ranges() const {
    std::vector<std::string> result;
    for (const auto& request : server_->requests()) {
      if (is_blob(request)) result.push_back(request.header("range"));
    }
    return result;
  }

  seconds deadline_{10};
  Runtime runtime_{2};
  HttpClient client_{runtime_};
  std::unique_ptr<ScriptedServer> server_;
  std::unique_ptr<Registry> registry_;
};

TEST_F(BlobDownloadTest, GoesOnFromTheLastByteThatCame) {
  connect([](const ServedRequest& request, int number) {
    if (number == 0) return cut(serve(request), 20'000);
    if (number == 1) return cut(serve(request), 30'000);
    return serve(request);
  });
  EXPECT_EQ(read(), kBlob);
  EXPECT_THAT(ranges(), ElementsAre("", "bytes=20000-", "bytes=50000-"));
}

TEST_F(BlobDownloadTest, AnEndWithoutAnAnnouncedLengthNeedsNoFurtherRequest) {
  deadline_ = seconds(3);
  connect([](const ServedRequest&, int) {
    return Reply{.headers = {{"Transfer-Encoding", "chunked"}},
                 .body = fmt::format("{:x}\r\n{}\r\n", kBlob.size(), kBlob),
                 .ending = Reply::Ending::kStall};
  });
  EXPECT_EQ(read(), kBlob);
  EXPECT_THAT(ranges(), ElementsAre(""));
}

TEST_F(BlobDownloadTest, AServerWithoutRangesIsTakenAtItsWordAndRemembered) {
  connect([](const ServedRequest&, int number) {
    const Reply whole{.body = kBlob};
    return number == 1 ? whole : cut(whole, number < 3 ? 20'000 : kBlob.size());
  });
  EXPECT_EQ(read(), kBlob);
  EXPECT_EQ(read(), kBlob);
  EXPECT_THAT(ranges(), ElementsAre("", "bytes=20000-", "", ""));
}

TEST_F(BlobDownloadTest, APartThatWasNotAskedForIsNotUsed) {
  for (const auto& wrong :
       {content_range(0, kBlob.size() - 1, kBlob.size()),
        content_range(20'000, kBlob.size() - 1, kBlob.size() + 1),
        content_range(20'000, kBlob.size(), kBlob.size()), std::string("bytes */1"),
        std::string("bytes 20000-"), std::string("lines 20000-65535/65536"), std::string()}) {
    connect([&](const ServedRequest& request, int number) {
      if (number == 0) return cut(serve(request), 20'000);
      auto reply = serve(request);
      if (number == 1) reply.headers.at(0).second = wrong;
      return reply;
    });
    EXPECT_EQ(read(), kBlob) << wrong;
    EXPECT_THAT(ranges(), ElementsAre("", "bytes=20000-", "")) << wrong;
  }
}

TEST_F(BlobDownloadTest, APartWhereAllWasAskedForIsARefusal) {
  connect([](const ServedRequest&, int) {
    return Reply{.status = 206,
                 .headers = {{"Content-Range", content_range(0, 999, kBlob.size())}},
                 .body = kBlob.substr(0, 1000)};
  });
  EXPECT_THROW(read(), Error);
  EXPECT_EQ(ranges().size(), 1U);
}

TEST_F(BlobDownloadTest, AShorterPartIsGoneOnFrom) {
  connect([](const ServedRequest& request, int number) {
    if (number == 0) return cut(serve(request), 20'000);
    if (number > 1) return serve(request);
    return Reply{.status = 206,
                 .headers = {{"Content-Range", content_range(20'000, 29'999, kBlob.size())}},
                 .body = kBlob.substr(20'000, 10'000)};
  });
  EXPECT_EQ(read(), kBlob);
  EXPECT_THAT(ranges(), ElementsAre("", "bytes=20000-", "bytes=30000-"));
}

TEST_F(BlobDownloadTest, WhatEndsWhereItBrokeOffIsBegunAnew) {
  connect([](const ServedRequest& request, int number) {
    if (number == 0) return cut(serve(request), 20'000);
    return number == 1 ? Reply{.status = 416} : serve(request);
  });
  EXPECT_EQ(read(), kBlob);
  EXPECT_THAT(ranges(), ElementsAre("", "bytes=20000-", ""));
}

TEST_F(BlobDownloadTest, ProgressExtendsTheDeadline) {
  deadline_ = seconds(3);
  connect([](const ServedRequest& request, int number) {
    if (number > 0) std::this_thread::sleep_for(std::chrono::milliseconds(700));
    return number < 5 ? cut(serve(request), 5'000) : serve(request);
  });
  EXPECT_EQ(read(), kBlob);
  EXPECT_EQ(ranges().back(), "bytes=25000-");
}

TEST_F(BlobDownloadTest, SingleBytesDoNotExtendIt) {
  deadline_ = seconds(1);
  connect([](const ServedRequest& request, int) { return cut(serve(request), 10); });
  EXPECT_THROW(read(), UnavailableError);
}

class RedirectedDownloadTest : public BlobDownloadTest {
 protected:
  /// A location on the storage host whose signature lives that long.
  std::string signed_location(std::time_t begin, int life) const {
    return storage_->url(fmt::format("/blobs/x?X-Amz-Date={:%Y%m%dT%H%M%SZ}&X-Amz-Expires={}",
                                     fmt::gmtime(begin), life));
  }
  void redirect(int life, ScriptedServer::Script storage) {
    storage_ = std::make_unique<ScriptedServer>(std::move(storage));
    connect([this, life](const ServedRequest&, int) {
      return Reply{.status = 307,
                   .headers = {{"Location", signed_location(std::time(nullptr), life)}}};
    });
  }
  std::size_t resolved() const { return server_->count("GET", "/blobs/"); }
  std::size_t stored() const { return storage_->count("GET", "/blobs/"); }

  std::unique_ptr<ScriptedServer> storage_;
};

TEST_F(RedirectedDownloadTest, ASignedLocationIsUsedAgain) {
  redirect(600, serve);
  EXPECT_EQ(read(), kBlob);
  EXPECT_EQ(read(), kBlob);
  EXPECT_EQ(resolved(), 1U);
  EXPECT_EQ(stored(), 2U);
}

TEST_F(RedirectedDownloadTest, OneThatIsAboutToExpireIsNot) {
  redirect(1, serve);
  EXPECT_EQ(read(), kBlob);
  std::this_thread::sleep_for(std::chrono::milliseconds(900));
  EXPECT_EQ(read(), kBlob);
  EXPECT_EQ(resolved(), 2U);
}

TEST_F(RedirectedDownloadTest, WhatMustBeFreshIsResolvedAnew) {
  redirect(600, serve);
  EXPECT_EQ(read(), kBlob);
  EXPECT_EQ(read(Freshness::kBypass), kBlob);
  EXPECT_EQ(resolved(), 2U);
}

TEST_F(RedirectedDownloadTest, ARefusedLocationIsResolvedOnceMore) {
  for (const int refusal : {400, 401, 403, 404, 410}) {
    redirect(600, [refusal, number = 0](const ServedRequest& request) mutable {
      return number++ == 1 ? Reply{.status = refusal} : serve(request);
    });
    EXPECT_EQ(read(), kBlob);
    EXPECT_EQ(read(), kBlob) << refusal;
    EXPECT_EQ(resolved(), 2U) << refusal;
    EXPECT_EQ(stored(), 3U) << refusal;
  }
}

TEST_F(RedirectedDownloadTest, ASecondRefusalIsFinal) {
  redirect(600, [](const ServedRequest&) { return Reply{.status = 403}; });
  EXPECT_THROW(read(), Error);
  EXPECT_EQ(resolved(), 2U);
  EXPECT_EQ(stored(), 2U);
}

TEST_F(RedirectedDownloadTest, GoesOnAtTheSameLocation) {
  redirect(600, [number = 0](const ServedRequest& request) mutable {
    return number++ == 0 ? cut(serve(request), 20'000) : serve(request);
  });
  EXPECT_EQ(read(), kBlob);
  EXPECT_EQ(resolved(), 1U);
  EXPECT_EQ(storage_->requests().back().header("range"), "bytes=20000-");
}

TEST(SignedLifetime, IsKnownForTheSignaturesOfLargeClouds) {
  constexpr std::time_t kNow = 1'767'323'045;  // 2026-01-02T03:04:05Z
  const auto lifetime = [](const std::string& query) {
    return signed_lifetime(Url::parse("https://storage.example/blob?" + query), kNow);
  };
  EXPECT_EQ(lifetime("X-Amz-Date=20260102T030405Z&X-Amz-Expires=900&a=b"), seconds(900));
  EXPECT_EQ(lifetime("X-Goog-Expires=900&X-Goog-Date=20260102T030305Z"), seconds(840));
  EXPECT_EQ(lifetime("Expires=1767323105&Signature=x"), seconds(60));
  EXPECT_EQ(lifetime("sp=r&se=2026-01-02T03%3A05%3A05Z&sig=x"), seconds(60));
  EXPECT_EQ(lifetime("se=2026-01-02T03:05:05Z"), seconds(60));
}

TEST(SignedLifetime, IsNotGuessed) {
  constexpr std::time_t kNow = 1'767'323'045;
  const auto lifetime = [](const std::string& query) {
    return signed_lifetime(Url::parse("https://storage.example/blob" + query), kNow);
  };
  for (const auto* query :
       {"", "?", "?Expires=", "?Expires=soon", "?Expires=1", "?Expires=-1", "?se=tomorrow",
        "?X-Amz-Date=20260102T030405Z", "?X-Amz-Date=20260102T030405Z&X-Amz-Expires=-5",
        "?X-Amz-Date=20260102T030405Z&X-Amz-Expires=99999999999999999999",
        "?NotExpires=1767323105"}) {
    EXPECT_EQ(lifetime(query), std::nullopt) << query;
  }
  EXPECT_EQ(lifetime("?Expires=9223372036854775807"), seconds(7 * 24 * 60 * 60));
}

}  // namespace
}  // namespace puzzlefs::fetch
