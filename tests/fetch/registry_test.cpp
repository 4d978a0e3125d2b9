// The registry client against a scripted registry that fails in all the ways that real ones do.
#include "fetch/registry.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <functional>
#include <future>
#include <memory>
#include <thread>

#include "../support/scripted_server.h"
#include "../support/temp_dir.h"
#include "fetch/base64.h"
#include "fetch/runtime.h"

namespace puzzlefs::fetch {
namespace {

using std::chrono::seconds;
using test::Reply;
using test::ScriptedServer;
using test::ServedRequest;
using testing::HasSubstr;
using testing::Not;

constexpr std::string_view kBlob = "the bytes of a blob";
constexpr std::string_view kManifest = R"({"schemaVersion":2,"layers":[]})";

Bytes to_bytes(std::string_view text) {
  const auto view = as_bytes(text);
  return {view.begin(), view.end()};
}

std::string text_of(const Bytes& bytes) {
  return std::string(as_text(bytes));
}

format::Descriptor descriptor_of(std::string_view text) {
  format::Descriptor descriptor;
  descriptor.digest = format::sha256(as_bytes(text));
  descriptor.size = text.size();
  return descriptor;
}

Reply manifest_reply() {
  return {.headers = {{"Content-Type", std::string(format::kManifestType) + "; charset=utf-8"}},
          .body = std::string(kManifest)};
}

/// Fails `failures` times with `failure`, then serves the blob.
ScriptedServer::Script fails_first(int failures, Reply failure) {
  return [=, left = failures](const ServedRequest& request) mutable {
    if (request.target == "/v2/") return Reply{};
    if (left-- > 0) return failure;
    return Reply{.body = std::string(kBlob)};
  };
}

class RegistryTest : public testing::Test {
 protected:
  void connect(const std::string& host, RegistryOptions options = {},
               Registry::Access access = Registry::Access::kPull) {
    registry_ = std::make_unique<Registry>(
        client_, format::parse_registry_name(host + "/team/app:1"), access, std::move(options));
  }
  void connect(ScriptedServer::Script script, RegistryOptions options = {},
               Registry::Access access = Registry::Access::kPull) {
    server_ = std::make_unique<ScriptedServer>(std::move(script));
    connect(server_->host(), std::move(options), access);
  }
  static RegistryOptions with_deadline(seconds deadline) {
    RegistryOptions options;
    options.deadline = deadline;
    return options;
  }
  /// Options with a credentials file for this host.
  RegistryOptions with_user(const std::string& host, const std::string& password) {
    RegistryOptions options;
    std::ofstream(directory_ / "auth.json") << R"({"auths": {")" << host << R"(": {"auth": ")"
                                            << base64_encode("me:" + password) << "\"}}}";
    options.credentials = Credentials(directory_ / "auth.json");
    options.deadline = seconds(5);
    return options;
  }

  Bytes read(const format::Descriptor& blob, Freshness freshness = Freshness::kAny) {
    return wait_for<Bytes>(
        [&](Completion<Bytes> done) { registry_->read(blob, freshness, std::move(done)); });
  }
  Bytes read() { return read(descriptor_of(kBlob)); }
  FetchedManifest get_manifest(const std::string& reference) {
    return wait_for<FetchedManifest>([&](Completion<FetchedManifest> done) {
      registry_->get_manifest(reference, std::move(done));
    });
  }
  std::vector<std::string> list_tags() {
    return wait_for<std::vector<std::string>>(
        [&](auto done) { registry_->list_tags(std::move(done)); });
  }
  void put_blob(std::string_view text) {
    wait_for<Done>([&](Completion<Done> done) {
      registry_->put_blob(format::sha256(as_bytes(text)),
                          std::make_shared<const Bytes>(to_bytes(text)), std::move(done));
    });
  }
  bool has_blob(std::string_view text) {
    return wait_for<bool>([&](Completion<bool> done) {
      registry_->has_blob(format::sha256(as_bytes(text)), std::move(done));
    });
  }
  /// The message of the Error that `action` throws.
  static std::string message_of(const std::function<void()>& action) {
    try {
      action();
    } catch (const Error& error) {
      return error.what();
    }
    return "no error";
  }

  test::TempDir directory_;
  Runtime runtime_{2};
  HttpClient client_{runtime_};
  std::unique_ptr<ScriptedServer> server_;
  std::unique_ptr<Registry> registry_;
};

TEST_F(RegistryTest, GreetsTheRegistryOnceForManyOperations) {
  connect(fails_first(0, {}));
  std::vector<std::future<Outcome<Bytes>>> answers;
  for (int i = 0; i < 10; ++i) {
    auto promise = std::make_shared<std::promise<Outcome<Bytes>>>();
    answers.push_back(promise->get_future());
    registry_->read(descriptor_of(kBlob), Freshness::kAny,
                    [promise](Outcome<Bytes> outcome) { promise->set_value(std::move(outcome)); });
  }
  for (auto& answer : answers) EXPECT_EQ(text_of(answer.get().value()), kBlob);
  const auto requests = server_->requests();
  EXPECT_EQ(requests.size(), 11U);
  EXPECT_EQ(requests.at(0).target, "/v2/");
}

TEST_F(RegistryTest, ARegistryOfThisMachineNeedsNoAuthoritiesToTrust) {
  HttpClient client(runtime_, {.ca_file = "/no/such.pem"});
  ScriptedServer server(fails_first(0, {}));
  Registry registry(client, format::parse_registry_name(server.host() + "/app:1"),
                    Registry::Access::kPull, {});
  const auto blob = wait_for<Bytes>([&](Completion<Bytes> done) {
    registry.read(descriptor_of(kBlob), Freshness::kAny, std::move(done));
  });
  EXPECT_EQ(text_of(blob), kBlob);
}

TEST_F(RegistryTest, AuthoritiesThatCannotBeUsedAreNoReasonToDoWithoutTls) {
  const auto file = directory_ / "own.pem";
  std::ofstream(file) << "-----BEGIN CERTIFICATE-----\njunk\n-----END CERTIFICATE-----\n";
  for (const auto* system : {"", "/no/such.pem"}) {
    HttpClient client(runtime_, {.certificates = TlsCertificates(file), .ca_file = system});
    ScriptedServer server(fails_first(0, {}));
    Registry registry(client, format::parse_registry_name(server.host() + "/app:1"),
                      Registry::Access::kPull, {});
    const auto message = message_of([&] {
      wait_for<Bytes>([&](Completion<Bytes> done) {
        registry.read(descriptor_of(kBlob), Freshness::kAny, std::move(done));
      });
    });
    EXPECT_THAT(message, HasSubstr("authorities to trust cannot be used"));
    EXPECT_THAT(message, HasSubstr("--tls-ca"));
    EXPECT_TRUE(server.requests().empty());
  }
}

TEST_F(RegistryTest, AsksForABlobByItsDigest) {
  connect(fails_first(0, {}));
  EXPECT_EQ(text_of(read()), kBlob);
  EXPECT_EQ(server_->requests().at(1).target,
            "/v2/team/app/blobs/" + descriptor_of(kBlob).digest.to_string());
  EXPECT_EQ(server_->requests().at(1).header("cache-control"), "");
}

TEST_F(RegistryTest, GoesPastCachesWhenAsked) {
  connect(fails_first(0, {}));
  read(descriptor_of(kBlob), Freshness::kBypass);
  EXPECT_EQ(server_->requests().at(1).header("cache-control"), "no-cache");
}

TEST_F(RegistryTest, AMissingBlobIsNotFound) {
  connect([](const ServedRequest& request) {
    return Reply{.status = request.target == "/v2/" ? 200 : 404, .body = std::string(500, 'x')};
  });
  EXPECT_THROW(read(), NotFoundError);
  EXPECT_FALSE(has_blob(kBlob));
}

TEST_F(RegistryTest, ABlobLongerThanItsDescriptorIsCorrupt) {
  connect(fails_first(0, {}));
  EXPECT_THROW(read(descriptor_of(kBlob.substr(1))), CorruptError);
}

TEST_F(RegistryTest, AManifestComesWithItsTypeAndDigest) {
  connect([](const ServedRequest&) { return manifest_reply(); });
  const auto manifest = get_manifest("1");
  EXPECT_EQ(text_of(manifest.document), kManifest);
  EXPECT_EQ(manifest.media_type, format::kManifestType);
  EXPECT_EQ(manifest.digest, descriptor_of(kManifest).digest);
  const auto request = server_->requests().at(1);
  EXPECT_EQ(request.target, "/v2/team/app/manifests/1");
  for (const auto type : {format::kManifestType, format::kIndexType, format::kDockerManifestType,
                          format::kDockerManifestListType}) {
    EXPECT_THAT(request.header("accept"), HasSubstr(std::string(type)));
  }
}

TEST_F(RegistryTest, AManifestOfAnotherDigestIsCorrupt) {
  connect([](const ServedRequest&) { return manifest_reply(); });
  EXPECT_NO_THROW(get_manifest(descriptor_of(kManifest).digest.to_string()));
  EXPECT_THROW(get_manifest(descriptor_of(kBlob).digest.to_string()), CorruptError);
}

TEST_F(RegistryTest, AManifestOfAnotherTypeThanAnnouncedIsCorrupt) {
  connect([](const ServedRequest&) {
    return Reply{.headers = {{"Content-Type", std::string(format::kIndexType)}},
                 .body = std::string(kManifest)};
  });
  EXPECT_THROW(get_manifest("1"), CorruptError);
}

TEST_F(RegistryTest, AManifestThatIsTooLongIsCorrupt) {
  connect([](const ServedRequest&) {
    return Reply{.body = std::string(format::kMaxManifestSize + 1, ' ')};
  });
  EXPECT_THROW(get_manifest("1"), CorruptError);
}

TEST_F(RegistryTest, AMissingTagIsNamed) {
  connect([](const ServedRequest& request) {
    return Reply{.status = request.target == "/v2/" ? 200 : 404};
  });
  EXPECT_THROW(get_manifest("nope"), NotFoundError);
  EXPECT_EQ(message_of([&] { get_manifest("nope"); }),
            server_->host() + "/team/app has no tag nope.");
}

TEST_F(RegistryTest, WhatIsNoRegistryIsSaidToBeNone) {
  connect([](const ServedRequest&) { return Reply{.status = 404}; });
  EXPECT_THAT(message_of([&] { read(); }), HasSubstr("is not a registry"));
}

TEST_F(RegistryTest, AnotherServerDoesNotBecomeTheRegistry) {
  ScriptedServer other([](const ServedRequest&) {
    return Reply{.status = 401, .headers = {{"WWW-Authenticate", "Basic realm=r"}}};
  });
  server_ = std::make_unique<ScriptedServer>([&](const ServedRequest&) {
    return Reply{.status = 307, .headers = {{"Location", other.url("/v2/")}}};
  });
  connect(server_->host(), with_user(server_->host(), "secret"));
  EXPECT_THAT(message_of([&] { read(); }), HasSubstr("another server, " + other.url("/v2/")));
  EXPECT_EQ(other.requests().size(), 1U);
  EXPECT_EQ(other.requests().at(0).header("authorization"), "");
}

TEST_F(RegistryTest, ListsTagsPageByPage) {
  connect([](const ServedRequest& request) {
    if (request.target == "/v2/team/app/tags/list?n=1000") {
      return Reply{.headers = {{"Link", "</v2/team/app/tags/list?n=1000&last=b>; rel=\"next\""}},
                   .body = R"({"name": "team/app", "tags": ["a", "b"]})"};
    }
    if (request.target == "/v2/team/app/tags/list?n=1000&last=b") {
      return Reply{.body = R"({"name": "team/app", "tags": ["c"]})"};
    }
    return Reply{};
  });
  EXPECT_EQ(list_tags(), (std::vector<std::string>{"a", "b", "c"}));
}

TEST_F(RegistryTest, ARepositoryMayHaveNoTags) {
  connect([](const ServedRequest&) { return Reply{.body = R"({"name": "app", "tags": null})"}; });
  EXPECT_EQ(list_tags(), std::vector<std::string>());
}

TEST_F(RegistryTest, AListOfTagsThatIsNotOneIsCorrupt) {
  for (const auto* body : {"<html>", "[]", R"({"tags": "a"})", R"({"tags": [1]})"}) {
    connect([body](const ServedRequest&) { return Reply{.body = body}; });
    EXPECT_THROW(list_tags(), CorruptError) << body;
  }
}

TEST_F(RegistryTest, AListOfTagsThatNeverEndsIsCorrupt) {
  connect([](const ServedRequest&) {
    return Reply{.headers = {{"Link", "</v2/team/app/tags/list?last=a>; rel=\"next\""}},
                 .body = R"({"tags": ["a"]})"};
  });
  EXPECT_THAT(message_of([&] { list_tags(); }), HasSubstr("does not end"));
}

TEST_F(RegistryTest, AListOfTagsGoesOnAtNoOtherServer) {
  ScriptedServer other([](const ServedRequest&) { return Reply{}; });
  connect([link = "<" + other.url("/v2/x") + ">; rel=\"next\""](const ServedRequest&) {
    return Reply{.headers = {{"Link", link}}, .body = R"({"tags": ["a"]})"};
  });
  EXPECT_THROW(list_tags(), CorruptError);
  EXPECT_EQ(other.requests().size(), 0U);
}

TEST_F(RegistryTest, ARegistryThatLetsNobodyDeleteSaysSo) {
  connect([](const ServedRequest& request) {
    return Reply{.status = request.method == "DELETE" ? 405 : 200};
  });
  EXPECT_THAT(message_of([&] {
                wait_for<Done>([&](Completion<Done> done) {
                  registry_->delete_manifest(descriptor_of(kBlob).digest, std::move(done));
                });
              }),
              HasSubstr("lets nobody delete"));
}

TEST_F(RegistryTest, TriesAgainAfterServerErrors) {
  for (const int status : {408, 429, 500, 502, 503, 504}) {
    connect(fails_first(2, {.status = status}));
    EXPECT_EQ(text_of(read()), kBlob) << status;
    EXPECT_EQ(server_->count("GET", "/blobs/"), 3U) << status;
    EXPECT_EQ(registry_->setbacks(), 2U) << status;
  }
}

TEST_F(RegistryTest, CountsARefusalAsNoSetback) {
  connect(fails_first(1000, {.status = 403}));
  EXPECT_THROW(read(), Error);
  EXPECT_EQ(registry_->setbacks(), 0U);
}

TEST_F(RegistryTest, WaitsAsLongAsItIsAskedTo) {
  connect(fails_first(1, {.status = 429, .headers = {{"Retry-After", "1"}}}));
  const auto before = std::chrono::steady_clock::now();
  EXPECT_EQ(text_of(read()), kBlob);
  EXPECT_GE(std::chrono::steady_clock::now() - before, seconds(1));
}

TEST_F(RegistryTest, DoesNotWaitForWhatIsBeyondTheDeadline) {
  connect(fails_first(1000, {.status = 503, .headers = {{"Retry-After", "3600"}}}));
  EXPECT_THAT(message_of([&] { read(); }), HasSubstr("503 Service Unavailable (tried once in "));
  EXPECT_EQ(server_->count("GET", "/blobs/"), 1U);
}

TEST_F(RegistryTest, DoesNotTryAgainAfterARefusal) {
  for (const int status : {400, 403, 405}) {
    connect(fails_first(1000, {.status = status}));
    EXPECT_THROW(read(), Error) << status;
    EXPECT_EQ(server_->count("GET", "/blobs/"), 1U) << status;
  }
}

TEST_F(RegistryTest, TriesAgainAfterAResetWithinTheBody) {
  connect(fails_first(
      1, {.body = std::string(kBlob), .ending = Reply::Ending::kReset, .body_sent = 5}));
  EXPECT_EQ(text_of(read()), kBlob);
}

TEST_F(RegistryTest, ACompleteBodyThatIsTooShortIsForTheReaderToJudge) {
  connect(fails_first(1, {.body = "short"}));
  EXPECT_EQ(text_of(read()), "short");
}

TEST_F(RegistryTest, TriesAgainToGreet) {
  connect([left = 2](const ServedRequest&) mutable {
    return left-- > 0 ? Reply{.status = 503} : Reply{.body = std::string(kBlob)};
  });
  EXPECT_EQ(text_of(read()), kBlob);
}

TEST_F(RegistryTest, SaysInTheEndWhyItGaveUp) {
  const auto host = "127.0.0.1:" + std::to_string(test::free_port());
  connect(host, with_deadline(seconds(1)));
  EXPECT_THROW(read(), UnavailableError);
  const auto message = message_of([&] { read(); });
  EXPECT_THAT(message, HasSubstr("Cannot reach registry " + host + ": Connection refused (tried "));
  EXPECT_THAT(message, HasSubstr(" times in 1 s)"));
}

TEST_F(RegistryTest, RecoversWhenTheRegistryIsBack) {
  const auto port = test::free_port();
  connect("127.0.0.1:" + std::to_string(port), with_deadline(seconds(0)));
  EXPECT_THROW(read(), UnavailableError);
  server_ = std::make_unique<ScriptedServer>(fails_first(0, {}), port);
  EXPECT_EQ(text_of(read()), kBlob);
}

TEST_F(RegistryTest, ADeadlineCanBeChanged) {
  connect("127.0.0.1:" + std::to_string(test::free_port()), with_deadline(seconds(600)));
  registry_->set_deadline(seconds(0));
  EXPECT_THROW(read(), UnavailableError);
}

TEST_F(RegistryTest, DestructionEndsWhatWaitsForItsNextTry) {
  connect(fails_first(1000, {.status = 503, .headers = {{"Retry-After", "30"}}}));
  std::promise<Outcome<Bytes>> promise;
  registry_->read(descriptor_of(kBlob), Freshness::kAny,
                  [&](Outcome<Bytes> outcome) { promise.set_value(std::move(outcome)); });
  server_->wait_for_requests(2);  // the greeting and the blob; the next is 30 s away
  registry_.reset();
  auto outcome = promise.get_future().get();
  EXPECT_THROW(outcome.value(), UnavailableError);
}

TEST_F(RegistryTest, ErrorsOfTheRegistryAreShownAndOthersAreNot) {
  connect(fails_first(
      1,
      {.status = 400, .body = R"({"errors":[{"code":"UNSUPPORTED","message":"no\u001b[1m"}]})"}));
  EXPECT_THAT(message_of([&] { read(); }), HasSubstr("400 Bad Request (UNSUPPORTED: no?[1m)"));
  connect(fails_first(1, {.status = 400, .body = "<html>secret</html>"}));
  EXPECT_THAT(message_of([&] { read(); }), Not(HasSubstr("secret")));
}

TEST_F(RegistryTest, FollowsARedirectWithoutItsAuthorization) {
  ScriptedServer storage([](const ServedRequest&) { return Reply{.body = std::string(kBlob)}; });
  server_ = std::make_unique<ScriptedServer>([&](const ServedRequest& request) {
    if (request.header("authorization").empty()) {
      return Reply{.status = 401, .headers = {{"WWW-Authenticate", "Basic realm=r"}}};
    }
    return Reply{.status = 307, .headers = {{"Location", storage.url("/signed?s=1")}}};
  });
  connect(server_->host(), with_user(server_->host(), "secret"));
  EXPECT_EQ(text_of(read()), kBlob);
  EXPECT_THAT(server_->requests().at(1).header("authorization"), HasSubstr("Basic "));
  EXPECT_EQ(storage.requests().at(0).target, "/signed?s=1");
  EXPECT_EQ(storage.requests().at(0).header("authorization"), "");
}

TEST_F(RegistryTest, FollowsNoCircle) {
  connect([](const ServedRequest& request) {
    if (request.target == "/v2/") return Reply{};
    return Reply{.status = 302, .headers = {{"Location", request.target}}};
  });
  EXPECT_THAT(message_of([&] { read(); }), HasSubstr("redirected too often"));
  EXPECT_EQ(server_->count("GET", "/blobs/"), 6U);
}

/// A registry with its token service: it accepts the token that was given last.
class TokenRegistryTest : public RegistryTest {
 protected:
  void connect_with_tokens(Registry::Access access = Registry::Access::kPull) {
    server_ = std::make_unique<ScriptedServer>(
        [this](const ServedRequest& request) { return answer(request); });
    connect(server_->host(), with_user(server_->host(), "secret"), access);
  }

  void connect_with_identity_token() {
    server_ = std::make_unique<ScriptedServer>(
        [this](const ServedRequest& request) { return answer(request); });
    RegistryOptions options;
    std::ofstream(directory_ / "auth.json")
        << R"({"auths": {")" << server_->host() << R"(": {"identitytoken": "id/7"}}})";
    options.credentials = Credentials(directory_ / "auth.json");
    options.deadline = seconds(5);
    connect(server_->host(), options);
  }

  Reply answer(const ServedRequest& request) {
    if (request.target.starts_with("/moved")) {
      return Reply{.status = redirect_, .headers = {{"Location", moved_to_}}};
    }
    if (request.target.starts_with("/token")) {
      const std::string token = "token-" + std::to_string(++issued_);
      return Reply{.body = R"({"token": ")" + token + R"(", "expires_in": 300})"};
    }
    if (request.header("authorization") != "Bearer token-" + std::to_string(valid_)) {
      const std::string realm = realm_.empty() ? "http://" + server_->host() + "/token" : realm_;
      return Reply{.status = 401,
                   .headers = {{"WWW-Authenticate", "Basic realm=\"other\""},
                               {"WWW-Authenticate",
                                "Bearer realm=\"" + realm + "\",service=\"the registry\""}}};
    }
    if (request.target == "/v2/") return Reply{};
    return Reply{.body = std::string(kBlob)};
  }

  int issued_ = 0;
  int valid_ = 1;
  std::string realm_;
  int redirect_ = 307;  // of "/moved"
  std::string moved_to_;
};

TEST_F(TokenRegistryTest, GetsATokenWithTheUsersPassword) {
  connect_with_tokens();
  EXPECT_EQ(text_of(read()), kBlob);
  const auto request = server_->requests().at(1);
  EXPECT_EQ(request.target, "/token?service=the%20registry&scope=repository%3ateam%2fapp%3apull");
  EXPECT_EQ(request.header("authorization"), "Basic " + base64_encode("me:secret"));
}

TEST_F(TokenRegistryTest, GetsATokenForAnIdentityToken) {
  connect_with_identity_token();
  EXPECT_EQ(text_of(read()), kBlob);
  const auto request = server_->requests().at(1);
  EXPECT_EQ(request.method, "POST");
  EXPECT_EQ(request.target, "/token");
  EXPECT_EQ(request.header("authorization"), "");
  EXPECT_EQ(request.header("content-type"), "application/x-www-form-urlencoded");
  EXPECT_EQ(request.body,
            "grant_type=refresh_token&client_id=puzzlefs&service=the%20registry"
            "&scope=repository%3Ateam%2Fapp%3Apull&refresh_token=id%2F7");
}

TEST_F(TokenRegistryTest, AsksForTheRightToPush) {
  connect_with_tokens(Registry::Access::kPush);
  EXPECT_TRUE(has_blob(kBlob));
  EXPECT_EQ(server_->count("GET", "%3apull%2cpush"), 1U);
}

TEST_F(TokenRegistryTest, UsesOneTokenForAll) {
  connect_with_tokens();
  for (int i = 0; i < 3; ++i) read();
  EXPECT_EQ(issued_, 1);
}

TEST_F(TokenRegistryTest, ARefusedTokenIsRenewedOnce) {
  connect_with_tokens();
  read();
  valid_ = 2;  // the first expired
  EXPECT_EQ(text_of(read()), kBlob);
  EXPECT_EQ(issued_, 2);
  valid_ = 99;  // the next will not be accepted either
  EXPECT_THAT(message_of([&] { read(); }), HasSubstr("puzzlefs login"));
  EXPECT_EQ(issued_, 3);
}

TEST_F(TokenRegistryTest, ARenewedPasswordIsPickedUp) {
  connect_with_tokens();
  read();
  with_user(server_->host(), "renewed");
  valid_ = 2;
  read();
  const auto requests = server_->requests();
  const auto token_request =
      std::find_if(requests.rbegin(), requests.rend(),
                   [](const auto& request) { return request.target.starts_with("/token"); });
  EXPECT_EQ(token_request->header("authorization"), "Basic " + base64_encode("me:renewed"));
}

TEST_F(TokenRegistryTest, ATokenServiceInAPrivateNetworkIsRefused) {
  realm_ = "http://169.254.169.254/token";
  connect_with_tokens();
  EXPECT_THAT(message_of([&] { read(); }), HasSubstr("private network"));
}

TEST_F(TokenRegistryTest, ARequestForATokenDoesNotLeaveItsServer) {
  ScriptedServer other([](const ServedRequest&) { return Reply{.body = R"({"token": "t"})"}; });
  moved_to_ = other.url("/token");
  for (const int status : {302, 303, 307}) {
    for (const bool identity_token : {true, false}) {
      redirect_ = status;
      if (identity_token) {
        connect_with_identity_token();
      } else {
        connect_with_tokens();
      }
      realm_ = server_->url("/moved");
      const auto message = message_of([&] { read(); });
      EXPECT_THAT(message, HasSubstr(server_->url("/moved") + " is redirected"));
      EXPECT_THAT(message, HasSubstr(moved_to_));
      EXPECT_EQ(server_->count(identity_token ? "POST" : "GET", "/moved"), 1U);
    }
  }
  EXPECT_EQ(other.connections(), 0U);
}

TEST_F(TokenRegistryTest, ATokenServiceMayRedirectWithinItsServer) {
  for (const bool identity_token : {true, false}) {
    if (identity_token) {
      connect_with_identity_token();
    } else {
      connect_with_tokens();
    }
    issued_ = 0;
    realm_ = server_->url("/moved");
    moved_to_ = "/token";
    EXPECT_EQ(text_of(read()), kBlob);
    const auto request = server_->requests().at(2);
    EXPECT_EQ(request.target, "/token");
    EXPECT_THAT(identity_token ? request.body : request.header("authorization"),
                HasSubstr(identity_token ? "refresh_token=id%2F7" : "Basic "));
  }
}

TEST_F(TokenRegistryTest, ATokenServiceThatRefusesIsFinal) {
  ScriptedServer tokens([](const ServedRequest&) { return Reply{.status = 401}; });
  realm_ = tokens.url("/token");
  connect_with_tokens();
  EXPECT_THAT(message_of([&] { read(); }), HasSubstr("gives no access to team/app"));
  EXPECT_EQ(tokens.requests().size(), 1U);
}

TEST_F(TokenRegistryTest, ATokenServiceThatIsBusyIsAskedAgain) {
  ScriptedServer tokens([left = 2](const ServedRequest&) mutable {
    return left-- > 0 ? Reply{.status = 503} : Reply{.body = R"({"access_token": "token-1"})"};
  });
  realm_ = tokens.url("/token");
  connect_with_tokens();
  EXPECT_EQ(text_of(read()), kBlob);
}

TEST_F(TokenRegistryTest, AnEndlessTokenIsCorrupt) {
  ScriptedServer tokens(
      [](const ServedRequest&) { return Reply{.body = std::string(70'000, 't')}; });
  realm_ = tokens.url("/token");
  connect_with_tokens();
  EXPECT_THROW(read(), CorruptError);
}

TEST_F(RegistryTest, APrivateRepositoryWithoutALoginSaysWhatToDo) {
  connect([](const ServedRequest&) {
    return Reply{.status = 401, .headers = {{"WWW-Authenticate", "Basic realm=r"}}};
  });
  const auto message = message_of([&] { read(); });
  EXPECT_THAT(message, HasSubstr("puzzlefs login " + server_->host()));
  EXPECT_THAT(message, HasSubstr("--authfile"));
}

/// A registry that takes uploads.
class UploadTest : public RegistryTest {
 protected:
  void connect_for_upload(std::function<Reply(const ServedRequest&)> put,
                          const std::string& location = "/v2/team/app/blobs/uploads/7?state=s") {
    connect(
        [put = std::move(put), location](const ServedRequest& request) {
          if (request.method == "POST") {
            return Reply{.status = 202, .headers = {{"Location", location}}};
          }
          if (request.method == "PUT") return put(request);
          return Reply{.status = request.method == "DELETE" ? 204 : 200};
        },
        {}, Registry::Access::kPush);
  }
};

TEST_F(UploadTest, IsAPostAndOnePut) {
  connect_for_upload([](const ServedRequest&) { return Reply{.status = 201}; });
  put_blob(kBlob);
  const auto requests = server_->requests();
  ASSERT_EQ(requests.size(), 3U);
  EXPECT_EQ(requests[1].target, "/v2/team/app/blobs/uploads/");
  EXPECT_EQ(requests[2].target, "/v2/team/app/blobs/uploads/7?state=s&digest=" +
                                    descriptor_of(kBlob).digest.to_string());
  EXPECT_EQ(requests[2].body, kBlob);
}

TEST_F(UploadTest, StartsAnewAfterAFailure) {
  connect_for_upload(
      [left = 1](const ServedRequest&) mutable { return Reply{.status = left-- > 0 ? 500 : 201}; });
  put_blob(kBlob);
  EXPECT_EQ(server_->count("POST", "/uploads/"), 2U);
  EXPECT_EQ(server_->count("PUT", "/uploads/7"), 2U);
}

TEST_F(UploadTest, ThatIsRefusedIsAborted) {
  connect_for_upload([](const ServedRequest&) {
    return Reply{.status = 400, .body = R"({"errors":[{"code":"DIGEST_INVALID"}]})"};
  });
  EXPECT_THAT(message_of([&] { put_blob(kBlob); }), HasSubstr("DIGEST_INVALID"));
  server_->wait_for_requests(4);
  EXPECT_EQ(server_->requests().at(3).method, "DELETE");
  EXPECT_EQ(server_->requests().at(3).target, "/v2/team/app/blobs/uploads/7?state=s");
}

TEST_F(UploadTest, NeedsALocation) {
  connect_for_upload([](const ServedRequest&) { return Reply{.status = 201}; }, "");
  EXPECT_THAT(message_of([&] { put_blob(kBlob); }), HasSubstr("no Location"));
}

TEST_F(UploadTest, ToAnotherHostCarriesNoPassword) {
  ScriptedServer storage([](const ServedRequest&) { return Reply{.status = 201}; });
  server_ = std::make_unique<ScriptedServer>([&](const ServedRequest& request) {
    if (request.header("authorization").empty()) {
      return Reply{.status = 401, .headers = {{"WWW-Authenticate", "Basic realm=r"}}};
    }
    return Reply{.status = request.method == "POST" ? 202 : 200,
                 .headers = {{"Location", storage.url("/put-here")}}};
  });
  connect(server_->host(), with_user(server_->host(), "secret"), Registry::Access::kPush);
  put_blob(kBlob);
  EXPECT_EQ(storage.requests().at(0).header("authorization"), "");
  EXPECT_EQ(storage.requests().at(0).body, kBlob);
}

TEST_F(UploadTest, OfAManifestCarriesItsType) {
  connect_for_upload([](const ServedRequest&) { return Reply{.status = 201}; });
  wait_for<Done>([&](Completion<Done> done) {
    registry_->put_manifest("1", std::string(format::kManifestType), to_bytes(kManifest),
                            std::move(done));
  });
  const auto request = server_->requests().at(1);
  EXPECT_EQ(request.target, "/v2/team/app/manifests/1");
  EXPECT_EQ(request.header("content-type"), format::kManifestType);
  EXPECT_EQ(request.body, kManifest);
}

}  // namespace
}  // namespace puzzlefs::fetch
