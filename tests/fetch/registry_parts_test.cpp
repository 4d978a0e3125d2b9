// The rules that need no server: URLs, challenges, tokens, redirects, waiting, printing.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "fetch/auth_challenge.h"
#include "fetch/authorizer.h"
#include "fetch/backoff.h"
#include "fetch/printable.h"
#include "fetch/redirect.h"
#include "fetch/registry_errors.h"
#include "fetch/url.h"
#include "format/error.h"

namespace puzzlefs::fetch {
namespace {

using std::chrono::seconds;
using testing::HasSubstr;
using testing::Not;

Bytes to_bytes(std::string_view text) {
  const auto view = as_bytes(text);
  return {view.begin(), view.end()};
}

TEST(Url, RelativeReferencesAreResolved) {
  const auto base = Url::parse("https://h.example:5000/v2/repo/blobs/uploads/");
  EXPECT_EQ(base.resolve("/v2/x?y=1").text(), "https://h.example:5000/v2/x?y=1");
  EXPECT_EQ(base.resolve("42?s=%2F").text(),
            "https://h.example:5000/v2/repo/blobs/uploads/42?s=%2F");
  EXPECT_EQ(base.resolve("../sha256:00").text(), "https://h.example:5000/v2/repo/blobs/sha256:00");
  EXPECT_EQ(base.resolve("//other.example/a").text(), "https://other.example/a");
  EXPECT_EQ(base.resolve("http://other.example/a").text(), "http://other.example/a");
}

TEST(Url, WhatIsNoHttpUrlIsRefused) {
  for (const auto* text : {"", "h.example", "ftp://h.example/", "file:///etc/passwd", "https://",
                           "https://user:pw@h.example/"}) {
    EXPECT_THROW(Url::parse(text), Error) << text;
  }
  EXPECT_THROW(Url::parse("https://h.example/").resolve("file:///etc/passwd"), Error);
}

TEST(Url, AnOriginIsSchemeHostAndPort) {
  const auto url = Url::parse("https://H.example/a");
  EXPECT_TRUE(url.same_origin(Url::parse("https://h.example:443/b")));
  EXPECT_FALSE(url.same_origin(Url::parse("https://h.example:444/a")));
  EXPECT_FALSE(url.same_origin(Url::parse("http://h.example:443/a")));
  EXPECT_FALSE(url.same_origin(Url::parse("https://i.example/a")));
}

TEST(Url, AParameterIsAddedWithTheRightSeparator) {
  EXPECT_EQ(Url::parse("https://h.example/u").with_parameter("digest", "sha256:1").text(),
            "https://h.example/u?digest=sha256:1");
  EXPECT_EQ(Url::parse("https://h.example/u?_state=a%3D").with_parameter("digest", "d").text(),
            "https://h.example/u?_state=a%3D&digest=d");
}

TEST(Url, PrivateHostsAreKnown) {
  for (const auto* host : {"localhost", "127.0.0.1", "127.9.9.9", "10.1.2.3", "172.16.0.1",
                           "172.31.255.255", "192.168.1.1", "169.254.169.254", "0.0.0.0", "[::1]",
                           "[fd00::1]", "[fe80::1]", "[::ffff:10.0.0.1]"}) {
    EXPECT_TRUE(is_private_host(host)) << host;
  }
  for (const auto* host :
       {"auth.example", "172.32.0.1", "8.8.8.8", "[2001:db8::1]", "10.example"}) {
    EXPECT_FALSE(is_private_host(host)) << host;
  }
}

TEST(AuthChallenge, BearerWithParameters) {
  const auto challenges = parse_challenges(
      R"(Bearer realm="https://auth.example/token",service="registry.example",scope="repository:a:pull,push")");
  ASSERT_EQ(challenges.size(), 1U);
  EXPECT_EQ(challenges[0].scheme, "bearer");
  EXPECT_EQ(challenges[0].parameter("realm"), "https://auth.example/token");
  EXPECT_EQ(challenges[0].parameter("service"), "registry.example");
  EXPECT_EQ(challenges[0].parameter("scope"), "repository:a:pull,push");
  EXPECT_EQ(challenges[0].parameter("error"), "");
}

TEST(AuthChallenge, SeveralInOneHeader) {
  const auto challenges =
      parse_challenges(R"(Negotiate, Basic realm = "a \"b\"" , charset=UTF-8, Bearer realm=x)");
  ASSERT_EQ(challenges.size(), 3U);
  EXPECT_EQ(challenges[0], (AuthChallenge{"negotiate", {}}));
  EXPECT_EQ(challenges[1], (AuthChallenge{"basic", {{"realm", "a \"b\""}, {"charset", "UTF-8"}}}));
  EXPECT_EQ(challenges[2], (AuthChallenge{"bearer", {{"realm", "x"}}}));
}

TEST(AuthChallenge, WhatIsMalformedEndsTheList) {
  EXPECT_TRUE(parse_challenges("").empty());
  EXPECT_TRUE(parse_challenges("=\"x").empty());
  EXPECT_EQ(parse_challenges("Basic realm=\"unfinished").size(), 1U);
  EXPECT_EQ(parse_challenges("Basic realm=\"x\\").size(), 1U);
  EXPECT_EQ(parse_challenges("Basic \x01 Bearer").size(), 1U);
}

class TokenTest : public testing::Test {
 protected:
  // After how many seconds the token of that answer is renewed.
  static long renewed_after(std::string_view document) {
    const std::chrono::steady_clock::time_point asked{};
    return std::chrono::duration_cast<seconds>(parse_token(to_bytes(document), asked).renew_at -
                                               asked)
        .count();
  }
  static std::string value(std::string_view document) {
    return parse_token(to_bytes(document), {}).value;
  }
};

TEST_F(TokenTest, HasTwoNames) {
  EXPECT_EQ(value(R"({"token": "abc"})"), "abc");
  EXPECT_EQ(value(R"({"access_token": "def"})"), "def");
  EXPECT_EQ(value(R"({"token": "", "access_token": "def"})"), "def");
}

TEST_F(TokenTest, IsRenewedBeforeItExpires) {
  EXPECT_EQ(renewed_after(R"({"token": "t", "expires_in": 300})"), 270);
  EXPECT_EQ(renewed_after(R"({"token": "t", "expires_in": 100})"), 80);
}

TEST_F(TokenTest, LivesAMinuteAtLeast) {
  for (const auto* document :
       {R"({"token": "t"})", R"({"token": "t", "expires_in": 5})",
        R"({"token": "t", "expires_in": -5})", R"({"token": "t", "expires_in": "300"})"}) {
    EXPECT_EQ(renewed_after(document), 48) << document;
  }
}

TEST_F(TokenTest, AnAbsurdLifetimeIsBounded) {
  const long day = 24L * 60 * 60 - 30;
  EXPECT_EQ(renewed_after(R"({"token": "t", "expires_in": 9223372036854775807})"), day);
  EXPECT_EQ(renewed_after(R"({"token": "t", "expires_in": 18446744073709551615})"), day);
}

TEST_F(TokenTest, WhatCannotBeAHeaderIsRefused) {
  for (const auto* document : {"", "{}", "[]", R"({"token": 1})", R"({"token": "a\r\nX-Evil: 1"})",
                               R"({"token": "a b"})"}) {
    EXPECT_THROW(value(document), CorruptError) << document;
  }
}

void check(const std::string& registry, const std::string& realm) {
  check_realm(Url::parse(registry), Url::parse(realm));
}

TEST(Realm, AnotherHostIsFine) {
  EXPECT_NO_THROW(check("https://registry.example/", "https://auth.example/token"));
  EXPECT_NO_THROW(check("http://registry.example/", "http://auth.example/token"));
  EXPECT_NO_THROW(check("http://registry.example/", "https://auth.example/token"));
}

TEST(Realm, EncryptionIsNotGivenUp) {
  EXPECT_THROW(check("https://registry.example/", "http://auth.example/token"), Error);
  EXPECT_THROW(check("https://registry.example/", "http://registry.example/token"), Error);
}

TEST(Realm, APrivateAddressIsOnlyForThatHostItself) {
  EXPECT_THROW(check("https://registry.example/", "https://169.254.169.254/token"), Error);
  EXPECT_THROW(check("https://registry.example/", "https://localhost/token"), Error);
  EXPECT_THROW(check("https://registry.example/", "https://0x7f.1/token"), Error);
  EXPECT_THROW(check("https://10.0.0.5/", "https://10.0.0.6/token"), Error);
  EXPECT_NO_THROW(check("https://10.0.0.5:5000/", "https://10.0.0.5:5001/token"));
  EXPECT_NO_THROW(check("http://localhost:5000/", "http://127.0.0.1:5001/token"));
}

HttpRequest follow(const std::string& from, int status, const std::string& location,
                   const std::string& method = "GET") {
  const HttpRequest request{
      .method = method, .url = from, .headers = {"Accept: a", "Authorization: Basic x"}};
  return redirected(request, HttpResponse{.status = status, .headers = {{"location", location}}});
}

TEST(Redirect, StaysAuthorisedOnTheSameServer) {
  const auto next = follow("https://h.example/a", 307, "/b");
  EXPECT_EQ(next.url, "https://h.example/b");
  EXPECT_THAT(next.headers, testing::ElementsAre("Accept: a", "Authorization: Basic x"));
}

TEST(Redirect, DropsAuthorizationForAnotherServer) {
  for (const auto* to :
       {"https://other.example/a", "https://h.example:8443/a", "//h.example:1/a"}) {
    EXPECT_THAT(follow("https://h.example/a", 302, to).headers, testing::ElementsAre("Accept: a"))
        << to;
  }
  EXPECT_THAT(follow("http://h.example/a", 302, "https://h.example/a").headers,
              testing::ElementsAre("Accept: a"));
}

TEST(Redirect, DoesNotGiveUpEncryption) {
  EXPECT_THROW(follow("https://h.example/a", 302, "http://h.example/a"), Error);
  EXPECT_THROW(follow("https://h.example/a", 302, "http://storage.example/a"), Error);
}

TEST(Redirect, NeedsALocation) {
  EXPECT_THROW(follow("https://h.example/a", 302, ""), Error);
  EXPECT_THROW(follow("https://h.example/a", 302, "gopher://h.example/"), Error);
}

TEST(Redirect, OnlySeeOtherChangesTheMethod) {
  EXPECT_EQ(follow("https://h.example/a", 307, "/b", "PUT").method, "PUT");
  EXPECT_EQ(follow("https://h.example/a", 303, "/b", "PUT").method, "GET");
  EXPECT_EQ(follow("https://h.example/a", 303, "/b", "HEAD").method, "HEAD");
}

TEST(Backoff, DoublesItsBoundUpToTenSeconds) {
  Backoff backoff;
  for (const int bound : {200, 400, 800, 1600, 3200, 6400, 10'000, 10'000}) {
    EXPECT_EQ(backoff.bound().count(), bound);
    EXPECT_LE(backoff.next().count(), bound);
  }
}

TEST(RetryAfter, IsSecondsOrADate) {
  EXPECT_EQ(parse_retry_after("120", 0), seconds(120));
  EXPECT_EQ(parse_retry_after("Thu, 01 Jan 1970 00:02:00 GMT", 30), seconds(90));
  EXPECT_EQ(parse_retry_after("Thu, 01 Jan 1970 00:02:00 GMT", 300), seconds(0));
  EXPECT_EQ(parse_retry_after("", 0), std::nullopt);
  EXPECT_EQ(parse_retry_after("soon", 0), std::nullopt);
  EXPECT_EQ(parse_retry_after("99999999999999999999", 0), seconds(24 * 60 * 60));
}

TEST(Explain, ShowsTheFirstErrorOfTheRegistry) {
  const HttpResponse response{
      .status = 404,
      .body = to_bytes(R"({"errors": [{"code": "NAME_UNKNOWN", "message": "no such\nname"}]})")};
  EXPECT_EQ(explain(response), "404 Not Found (NAME_UNKNOWN: no such?name)");
}

TEST(Explain, ShowsNothingOfOtherBodies) {
  for (const auto* body : {"<html>bad gateway</html>", "", "{}", R"({"errors": {}})",
                           R"({"errors": [7]})", R"({"errors": []})"}) {
    EXPECT_EQ(explain({.status = 502, .body = to_bytes(body)}), "502 Bad Gateway") << body;
  }
}

TEST(Printable, HasNoControlCharactersAndNoEnd) {
  EXPECT_EQ(printable("a\x1b[31m\nb\xff"), "a?[31m?b?");
  EXPECT_EQ(printable("abcdef", 3), "abc...");
}

TEST(PrintableUrl, ShowsNoSecrets) {
  EXPECT_EQ(printable_url("https://u:p@h.example/a?X-Amz-Signature=s#f"), "https://h.example/a");
  EXPECT_EQ(printable_url("https://h.example/a@b"), "https://h.example/a@b");
}

}  // namespace
}  // namespace puzzlefs::fetch
