// What can be logged in to, and whether a registry lets somebody in.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>

#include "../support/scripted_server.h"
#include "fetch/base64.h"
#include "fetch/login_check.h"
#include "fetch/login_target.h"
#include "fetch/registry_errors.h"
#include "fetch/runtime.h"
#include "format/error.h"

namespace puzzlefs::fetch {
namespace {

using std::chrono::seconds;
using test::Reply;
using test::ScriptedServer;
using test::ServedRequest;
using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

TEST(LoginTarget, IsARegistryOrAPartOfOne) {
  EXPECT_EQ(parse_login_target("h.example"), (LoginTarget{"h.example", ""}));
  EXPECT_EQ(parse_login_target("localhost"), (LoginTarget{"localhost", ""}));
  EXPECT_EQ(parse_login_target("[::1]:5000"), (LoginTarget{"[::1]:5000", ""}));
  EXPECT_EQ(parse_login_target("https://h.example:5000/v2/"), (LoginTarget{"h.example:5000", ""}));
  const auto part = parse_login_target("h.example:5000/team/app");
  EXPECT_EQ(part, (LoginTarget{"h.example:5000", "team/app"}));
  EXPECT_EQ(part.key(), "h.example:5000/team/app");
}

TEST(LoginTarget, DockerHubHasManyNames) {
  for (const auto* name : {"docker.io", "index.docker.io", "registry-1.docker.io",
                           "https://index.docker.io/v1/", "https://docker.io"}) {
    EXPECT_EQ(parse_login_target(name), (LoginTarget{"docker.io", ""})) << name;
  }
  EXPECT_EQ(parse_login_target("docker.io/team").key(), "docker.io/team");
}

TEST(LoginTarget, IsNoImageAndNoPath) {
  for (const auto* text : {"", "debian", "team/app", "h.example/team:1", "h.example/",
                           "h.example//a", "h.example/Team", "h_.example", "h.example/a@sha256:0",
                           "/etc/passwd", "h.example:port", "https://", "me@h.example"}) {
    EXPECT_THROW(parse_login_target(text), UsageError) << text;
  }
}

class LoginCheckTest : public testing::Test {
 protected:
  static constexpr const char* kPassword = "open sesame";

  LoginCheck check(const std::string& host, const std::string& password = kPassword,
                   seconds deadline = seconds(5)) {
    return check_login(client_, parse_login_target(host), {.user = "me", .password = password}, {},
                       deadline);
  }
  static bool knows(const ServedRequest& request) {
    return request.header("authorization") == "Basic " + base64_encode("me:open sesame");
  }
  static Reply challenge(const std::string& text) {
    return {.status = 401, .headers = {{"WWW-Authenticate", text}}};
  }
  static ScriptedServer::Script basic_registry() {
    return [](const ServedRequest& request) {
      return knows(request) ? Reply{} : challenge("Basic realm=r");
    };
  }
  static std::string message_of(const std::function<void()>& action) {
    try {
      action();
    } catch (const Error& error) {
      return error.what();
    }
    return "no error";
  }

  Runtime runtime_{2};
  HttpClient client_{runtime_};
};

TEST_F(LoginCheckTest, APasswordIsTakenToTheRegistry) {
  ScriptedServer server(basic_registry());
  EXPECT_EQ(check(server.host()), LoginCheck::kAccepted);
  const auto requests = server.requests();
  ASSERT_EQ(requests.size(), 2U);
  for (const auto& request : requests) EXPECT_EQ(request.target, "/v2/");
}

TEST_F(LoginCheckTest, AWrongPasswordIsTriedOnce) {
  ScriptedServer server(basic_registry());
  EXPECT_THROW(check(server.host(), "wrong"), RefusedError);
  EXPECT_EQ(server.requests().size(), 2U);
  EXPECT_THAT(message_of([&] { check(server.host(), "wrong"); }),
              AllOf(HasSubstr(server.host()), HasSubstr("did not accept"), HasSubstr("\"me\""),
                    Not(HasSubstr("wrong"))));
}

TEST_F(LoginCheckTest, ARegistryForEverybodyIsToldNothing) {
  ScriptedServer server([](const ServedRequest&) { return Reply{}; });
  EXPECT_EQ(check(server.host()), LoginCheck::kNotAsked);
  for (const auto& request : server.requests()) EXPECT_EQ(request.header("authorization"), "");
}

TEST_F(LoginCheckTest, IsTriedAnewWhileTheRegistryIsBusy) {
  ScriptedServer server([left = 3](const ServedRequest& request) mutable {
    if (left-- > 0) return Reply{.status = left == 2 ? 429 : 503};
    return knows(request) ? Reply{} : challenge("Basic realm=r");
  });
  EXPECT_EQ(check(server.host()), LoginCheck::kAccepted);
}

TEST_F(LoginCheckTest, ARegistryThatIsNotThereIsNamed) {
  const auto host = "127.0.0.1:" + std::to_string(test::free_port());
  EXPECT_THROW(check(host, kPassword, seconds(1)), UnavailableError);
}

TEST_F(LoginCheckTest, WhatIsNoRegistryIsRefused) {
  ScriptedServer server([](const ServedRequest&) { return Reply{.status = 404}; });
  EXPECT_THAT(message_of([&] { check(server.host()); }), HasSubstr("not a registry"));
}

/// A registry whose token service is the same server.
class TokenLoginCheckTest : public LoginCheckTest {
 protected:
  TokenLoginCheckTest()
      : server_([this](const ServedRequest& request) { return answer(request); }) {}

  Reply answer(const ServedRequest& request) const {
    if (request.target.starts_with("/token")) {
      return knows(request) ? Reply{.body = R"({"token": "t"})"} : Reply{.status = refusal_};
    }
    if (request.header("authorization") == "Bearer " + valid_) return {};
    return challenge("Bearer realm=\"" + server_.url("/token") + "\",service=s");
  }

  int refusal_ = 401;
  std::string valid_ = "t";
  ScriptedServer server_;
};

TEST_F(TokenLoginCheckTest, APasswordIsTakenToTheTokenService) {
  EXPECT_EQ(check(server_.host()), LoginCheck::kAccepted);
  const auto requests = server_.requests();
  ASSERT_EQ(requests.size(), 3U);
  EXPECT_EQ(requests.at(1).target, "/token?service=s");
}

TEST_F(TokenLoginCheckTest, AWrongPasswordIsTriedOnce) {
  for (const int status : {400, 401, 403}) {
    refusal_ = status;
    const auto before = server_.requests().size();
    EXPECT_THAT(message_of([&] { check(server_.host(), "wrong"); }),
                AllOf(HasSubstr("did not accept"), HasSubstr("\"me\""), HasSubstr("token service"),
                      Not(HasSubstr("wrong"))));
    EXPECT_EQ(server_.requests().size(), before + 2);
  }
}

TEST_F(TokenLoginCheckTest, ATokenThatTheRegistryRefusesIsNoLogin) {
  valid_ = "another";
  EXPECT_THROW(check(server_.host()), RefusedError);
  EXPECT_EQ(server_.requests().size(), 3U);
}

}  // namespace
}  // namespace puzzlefs::fetch
