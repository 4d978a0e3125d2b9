// The HTTP client against a server that answers as each test says.
#include "fetch/http_client.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <future>
#include <memory>
#include <thread>

#include "../support/scripted_server.h"
#include "../support/temp_dir.h"
#include "fetch/runtime.h"

namespace puzzlefs::fetch {
namespace {

using test::Reply;
using test::ScriptedServer;
using test::ServedRequest;
using testing::HasSubstr;

Bytes to_bytes(std::string_view text) {
  const auto view = as_bytes(text);
  return {view.begin(), view.end()};
}

std::shared_ptr<const Bytes> shared_bytes(std::string_view text) {
  return std::make_shared<const Bytes>(to_bytes(text));
}

class HttpClientTest : public testing::Test {
 protected:
  HttpResponse send(HttpRequest request) {
    return wait_for<HttpResponse>(
        [&](Completion<HttpResponse> done) { client_->send(std::move(request), std::move(done)); });
  }
  std::future<Outcome<HttpResponse>> send_later(HttpRequest request) {
    auto promise = std::make_shared<std::promise<Outcome<HttpResponse>>>();
    auto future = promise->get_future();
    client_->send(std::move(request), [promise](Outcome<HttpResponse> outcome) {
      promise->set_value(std::move(outcome));
    });
    return future;
  }

  Runtime runtime_{2};
  std::unique_ptr<HttpClient> client_ = std::make_unique<HttpClient>(runtime_);
};

TEST_F(HttpClientTest, DeliversStatusHeadersAndBody) {
  ScriptedServer server([](const ServedRequest&) {
    return Reply{.status = 418, .headers = {{"X-Kind", " teapot "}}, .body = "short and stout"};
  });
  auto response = send({.url = server.url("/pot?size=1")});
  EXPECT_EQ(response.status, 418);
  EXPECT_EQ(response.header("x-kind"), "teapot");
  EXPECT_EQ(response.header("x-other"), "");
  EXPECT_EQ(as_text(response.body), "short and stout");
  EXPECT_EQ(server.requests().at(0).target, "/pot?size=1");
}

TEST_F(HttpClientTest, SendsTheGivenHeadersAndNoAcceptEncoding) {
  ScriptedServer server([](const ServedRequest&) { return Reply{}; });
  send({.url = server.url("/"), .headers = {"Accept: text/plain", "X-One: 1"}});
  const auto request = server.requests().at(0);
  EXPECT_EQ(request.header("accept"), "text/plain");
  EXPECT_EQ(request.header("x-one"), "1");
  EXPECT_EQ(request.header("accept-encoding"), "");
  EXPECT_THAT(request.header("user-agent"), HasSubstr("puzzlefs/"));
}

TEST_F(HttpClientTest, ReusesTheConnection) {
  ScriptedServer server([](const ServedRequest&) { return Reply{.body = "x"}; });
  for (int i = 0; i < 5; ++i) send({.url = server.url("/")});
  EXPECT_EQ(server.connections(), 1U);
}

TEST_F(HttpClientTest, KeepsToTheLimitOfConnectionsPerHost) {
  ScriptedServer server([](const ServedRequest&) { return Reply{.body = "x"}; });
  client_ = std::make_unique<HttpClient>(runtime_, HttpOptions{.connections_per_host = 2});
  std::vector<std::future<Outcome<HttpResponse>>> answers;
  for (int i = 0; i < 40; ++i) answers.push_back(send_later({.url = server.url("/")}));
  for (auto& answer : answers) EXPECT_EQ(answer.get().value().status, 200);
  EXPECT_LE(server.connections(), 2U);
}

TEST_F(HttpClientTest, TheConnectTimeoutDoesNotCountTheTimeInTheQueue) {
  ScriptedServer server([](const ServedRequest& request) {
    if (request.target == "/slow") std::this_thread::sleep_for(std::chrono::milliseconds(1500));
    return Reply{.body = "x"};
  });
  client_ = std::make_unique<HttpClient>(runtime_, HttpOptions{.connections_per_host = 1});
  auto slow = send_later({.url = server.url("/slow"), .connect_timeout = std::chrono::seconds(1)});
  auto queued = send_later({.url = server.url("/"), .connect_timeout = std::chrono::seconds(1)});
  EXPECT_TRUE(slow.get().ok());
  EXPECT_TRUE(queued.get().ok());
}

TEST_F(HttpClientTest, UploadsBytes) {
  ScriptedServer server([](const ServedRequest&) { return Reply{.status = 201}; });
  const std::string body(300'000, 'b');
  EXPECT_EQ(send({.method = "PUT", .url = server.url("/"), .body = shared_bytes(body)}).status,
            201);
  EXPECT_EQ(server.requests().at(0).method, "PUT");
  EXPECT_EQ(server.requests().at(0).body, body);
}

TEST_F(HttpClientTest, UploadsAFile) {
  ScriptedServer server([](const ServedRequest&) { return Reply{.status = 201}; });
  const test::TempDir directory;
  const std::string body(300'000, 'f');
  std::ofstream(directory / "file") << body;
  const FileBody file{(directory / "file").string(), body.size()};
  EXPECT_EQ(send({.method = "PUT", .url = server.url("/"), .body = file}).status, 201);
  EXPECT_EQ(server.requests().at(0).body, body);
}

TEST_F(HttpClientTest, AFileThatIsShorterThanAnnouncedIsCorrupt) {
  ScriptedServer server([](const ServedRequest&) { return Reply{.status = 201}; });
  const test::TempDir directory;
  std::ofstream(directory / "file") << "four";
  const FileBody file{(directory / "file").string(), 5};
  EXPECT_THROW(send({.method = "PUT", .url = server.url("/"), .body = file}), CorruptError);
}

TEST_F(HttpClientTest, AFileThatIsMissingIsNotFound) {
  EXPECT_THROW(
      send({.method = "PUT", .url = "http://127.0.0.1:1/", .body = FileBody{"/no/file", 1}}),
      NotFoundError);
}

TEST_F(HttpClientTest, APostWithoutABodyHasLengthZero) {
  ScriptedServer server([](const ServedRequest&) { return Reply{.status = 202}; });
  EXPECT_EQ(send({.method = "POST", .url = server.url("/uploads/")}).status, 202);
  EXPECT_EQ(server.requests().at(0).method, "POST");
  EXPECT_EQ(server.requests().at(0).header("content-length"), "0");
  EXPECT_EQ(server.requests().at(0).header("content-type"), "");
}

TEST_F(HttpClientTest, AHeadHasNoBody) {
  ScriptedServer server([](const ServedRequest&) { return Reply{.body = "twelve bytes"}; });
  const auto response = send({.method = "HEAD", .url = server.url("/"), .max_body_size = 1});
  EXPECT_EQ(response.header("content-length"), "12");
  EXPECT_TRUE(response.body.empty());
}

TEST_F(HttpClientTest, FollowsNoRedirect) {
  ScriptedServer server([](const ServedRequest&) {
    return Reply{.status = 302, .headers = {{"Location", "/elsewhere"}}};
  });
  EXPECT_EQ(send({.url = server.url("/")}).status, 302);
  EXPECT_EQ(server.requests().size(), 1U);
}

TEST_F(HttpClientTest, ABodyLongerThanWantedIsCorrupt) {
  ScriptedServer server([](const ServedRequest&) { return Reply{.body = "12345"}; });
  EXPECT_EQ(send({.url = server.url("/"), .max_body_size = 5}).body.size(), 5U);
  EXPECT_THROW(send({.url = server.url("/"), .max_body_size = 4}), CorruptError);
}

TEST_F(HttpClientTest, ABodyOfUnknownLengthIsBoundedToo) {
  ScriptedServer server([](const ServedRequest&) {
    return Reply{.headers = {{"Transfer-Encoding", "chunked"}}, .body = "5\r\n12345\r\n0\r\n\r\n"};
  });
  EXPECT_EQ(send({.url = server.url("/"), .max_body_size = 5}).body.size(), 5U);
  EXPECT_THROW(send({.url = server.url("/"), .max_body_size = 4}), CorruptError);
}

TEST_F(HttpClientTest, AnExplanationLongerThanTheBlobIsDelivered) {
  ScriptedServer server(
      [](const ServedRequest&) { return Reply{.status = 404, .body = "there is no such blob"}; });
  const auto response = send({.url = server.url("/"), .max_body_size = 1});
  EXPECT_EQ(as_text(response.body), "there is no such blob");
}

TEST_F(HttpClientTest, AnEndlessExplanationIsCut) {
  ScriptedServer server(
      [](const ServedRequest&) { return Reply{.status = 500, .body = std::string(1 << 20, 'e')}; });
  const auto response = send({.url = server.url("/")});
  EXPECT_EQ(response.status, 500);
  EXPECT_EQ(response.body.size(), kMaxExplanationSize);
}

TEST_F(HttpClientTest, TooManyHeadersAreCorrupt) {
  ScriptedServer server([](const ServedRequest&) {
    Reply reply;
    for (int i = 0; i < 70; ++i) reply.headers.emplace_back("X-Filler", std::string(1000, 'h'));
    return reply;
  });
  EXPECT_THROW(send({.url = server.url("/")}), CorruptError);
}

TEST_F(HttpClientTest, NamesWhatRefusesAConnection) {
  const auto url = "http://127.0.0.1:" + std::to_string(test::free_port()) + "/v2/?secret=1";
  try {
    send({.url = url});
    FAIL() << "there is a server";
  } catch (const TransportError& error) {
    EXPECT_EQ(error.reason(), "Connection refused");
    EXPECT_THAT(error.what(), HasSubstr("/v2/: Connection refused."));
    EXPECT_THAT(error.what(), testing::Not(HasSubstr("secret")));
  }
}

TEST_F(HttpClientTest, TlsToAPlainServerIsToldFromOtherFailures) {
  ScriptedServer server([](const ServedRequest&) { return Reply{}; });
  try {
    send({.url = "https://" + server.host() + "/"});
    FAIL() << "there is TLS";
  } catch (const TransportError& error) {
    EXPECT_EQ(error.cause(), TransportError::Cause::kTls);
  }
}

TEST_F(HttpClientTest, WithoutAuthoritiesToTrustItSaysWhatToInstall) {
  ScriptedServer server([](const ServedRequest&) { return Reply{}; });
  client_ = std::make_unique<HttpClient>(runtime_, HttpOptions{.ca_file = "/no/such.pem"});
  try {
    send({.url = "https://" + server.host() + "/"});
    FAIL() << "there is TLS";
  } catch (const NoTrustError& error) {
    EXPECT_THAT(error.what(), HasSubstr("apt-get install ca-certificates"));
  }
}

TEST_F(HttpClientTest, AResetWithinTheBodyIsATransportError) {
  ScriptedServer server([](const ServedRequest&) {
    return Reply{.body = std::string(100, 'x'), .ending = Reply::Ending::kReset, .body_sent = 50};
  });
  EXPECT_THROW(send({.url = server.url("/")}), TransportError);
}

TEST_F(HttpClientTest, AStalledBodyIsGivenUp) {
  ScriptedServer server([](const ServedRequest&) {
    return Reply{.body = std::string(100, 'x'), .ending = Reply::Ending::kStall, .body_sent = 50};
  });
  EXPECT_THROW(send({.url = server.url("/"), .stall_timeout = std::chrono::seconds(1)}),
               TransportError);
}

TEST_F(HttpClientTest, OtherProtocolsAreRefused) {
  EXPECT_THROW(send({.url = "file:///etc/hostname"}), Error);
  EXPECT_THROW(send({.url = "ftp://127.0.0.1/"}), Error);
}

TEST_F(HttpClientTest, ACompletionMaySendTheNextRequest) {
  ScriptedServer server([](const ServedRequest&) { return Reply{.body = "x"}; });
  const auto last = wait_for<HttpResponse>([&](Completion<HttpResponse> done) {
    client_->send({.url = server.url("/1")}, [this, &server, done](Outcome<HttpResponse>) {
      client_->send({.url = server.url("/2")}, done);
    });
  });
  EXPECT_EQ(last.status, 200);
  EXPECT_EQ(server.count("GET", "/2"), 1U);
}

TEST_F(HttpClientTest, DestructionFailsWhatIsUnderWay) {
  ScriptedServer server([](const ServedRequest&) {
    return Reply{.body = "xx", .ending = Reply::Ending::kStall, .body_sent = 1};
  });
  std::vector<std::future<Outcome<HttpResponse>>> answers;
  for (int i = 0; i < 20; ++i) answers.push_back(send_later({.url = server.url("/")}));
  server.wait_for_requests(4);
  client_.reset();
  for (auto& answer : answers) {
    ASSERT_EQ(answer.wait_for(std::chrono::seconds(0)), std::future_status::ready);
    auto outcome = answer.get();
    EXPECT_THROW(outcome.value(), UnavailableError);
  }
}

TEST_F(HttpClientTest, ACompletionMayDestroyTheClient) {
  ScriptedServer server([](const ServedRequest&) { return Reply{.body = "x"}; });
  std::promise<void> destroyed;
  client_->send({.url = server.url("/")}, [&](Outcome<HttpResponse>) {
    client_.reset();
    destroyed.set_value();
  });
  destroyed.get_future().wait();
  EXPECT_EQ(client_, nullptr);
}

TEST_F(HttpClientTest, ManyThreadsShareIt) {
  ScriptedServer server([](const ServedRequest& request) { return Reply{.body = request.target}; });
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 25; ++i) {
        const auto target = "/" + std::to_string(t) + "/" + std::to_string(i);
        EXPECT_EQ(as_text(send({.url = server.url(target)}).body), target);
      }
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(server.requests().size(), 100U);
}

}  // namespace
}  // namespace puzzlefs::fetch
