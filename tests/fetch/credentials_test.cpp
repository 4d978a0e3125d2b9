// Which credential is found in which file.
#include "fetch/credentials.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <utility>

#include "../support/environment.h"
#include "../support/temp_dir.h"
#include "fetch/base64.h"
#include "fetch/credential_helper.h"
#include "format/error.h"

namespace puzzlefs::fetch {
namespace {

namespace fs = std::filesystem;
using test::ScopedVariable;
using testing::HasSubstr;

class CredentialsTest : public testing::Test {
 protected:
  std::string path(const fs::path& name) const { return (directory_ / name).string(); }

  void write(const fs::path& name, const std::string& text) const {
    fs::create_directories((directory_ / name).parent_path());
    std::ofstream(directory_ / name) << text;
  }
  /// A file with one entry, for `key`, of a user.
  void write_user(const fs::path& name, const std::string& key, const std::string& user) const {
    write(name,
          R"({"auths": {")" + key + R"(": {"auth": ")" + base64_encode(user + ":secret") + "\"}}}");
  }

  static std::string user_of(const Credentials& credentials, const std::string& name) {
    const auto found = credentials.find(format::parse_registry_name(name));
    return found ? found->user : "nobody";
  }

  test::TempDir directory_;
  // All default places lie in the directory; a test creates those that it wants.
  ScopedVariable file_{"REGISTRY_AUTH_FILE", std::nullopt};
  ScopedVariable runtime_{"XDG_RUNTIME_DIR", path("run")};
  ScopedVariable config_{"XDG_CONFIG_HOME", path("config")};
  ScopedVariable docker_{"DOCKER_CONFIG", path("docker")};
};

TEST_F(CredentialsTest, NoFileIsNoCredential) {
  EXPECT_EQ(user_of(Credentials(), "host.example/repo"), "nobody");
}

TEST_F(CredentialsTest, ThePasswordMayContainColons) {
  write("auth.json", R"({"auths": {"h.example": {"auth": ")" + base64_encode("me:a:b:") + "\"}}}");
  const auto found =
      Credentials(directory_ / "auth.json").find(format::parse_registry_name("h.example/repo"));
  ASSERT_TRUE(found);
  EXPECT_EQ(found->user, "me");
  EXPECT_EQ(found->password, "a:b:");
}

TEST_F(CredentialsTest, TheFirstFileThatHasOneCounts) {
  write_user("docker/config.json", "h.example", "docker");
  EXPECT_EQ(user_of(Credentials(), "h.example/repo"), "docker");
  write_user("config/containers/auth.json", "h.example", "config");
  EXPECT_EQ(user_of(Credentials(), "h.example/repo"), "config");
  write_user("run/containers/auth.json", "h.example", "runtime");
  EXPECT_EQ(user_of(Credentials(), "h.example/repo"), "runtime");
}

TEST_F(CredentialsTest, AFileForOtherHostsDoesNotHideTheNext) {
  write_user("run/containers/auth.json", "other.example", "other");
  write_user("docker/config.json", "h.example", "docker");
  EXPECT_EQ(user_of(Credentials(), "h.example/repo"), "docker");
}

TEST_F(CredentialsTest, TheVariableNamesTheOnlyFile) {
  write_user("run/containers/auth.json", "h.example", "runtime");
  write_user("named.json", "other.example", "named");
  const ScopedVariable variable("REGISTRY_AUTH_FILE", path("named.json"));
  EXPECT_EQ(user_of(Credentials(), "other.example/repo"), "named");
  EXPECT_EQ(user_of(Credentials(), "h.example/repo"), "nobody");
}

TEST_F(CredentialsTest, TheOptionGoesBeforeTheVariable) {
  write_user("named.json", "h.example", "named");
  write_user("option.json", "h.example", "option");
  const ScopedVariable variable("REGISTRY_AUTH_FILE", path("named.json"));
  EXPECT_EQ(user_of(Credentials(directory_ / "option.json"), "h.example/repo"), "option");
}

TEST_F(CredentialsTest, ARelativePathIsMeantFromWhereItWasNamed) {
  write_user("named.json", "h.example", "named");
  const auto before = std::filesystem::current_path();
  std::filesystem::current_path(directory_.path());
  const ScopedVariable variable("REGISTRY_AUTH_FILE", std::string("named.json"));
  const Credentials credentials;
  std::filesystem::current_path("/");  // as a program that goes to the background does
  EXPECT_EQ(user_of(credentials, "h.example/repo"), "named");
  std::filesystem::current_path(before);
}

TEST_F(CredentialsTest, AHomeDirectoryStandsInForTheVariables) {
  const ScopedVariable config("XDG_CONFIG_HOME", std::nullopt);
  const ScopedVariable docker("DOCKER_CONFIG", std::nullopt);
  const ScopedVariable home("HOME", path("home"));
  write_user("home/.docker/config.json", "h.example", "docker");
  EXPECT_EQ(user_of(Credentials(), "h.example/repo"), "docker");
  write_user("home/.config/containers/auth.json", "h.example", "config");
  EXPECT_EQ(user_of(Credentials(), "h.example/repo"), "config");
}

TEST_F(CredentialsTest, AMissingFileThatWasNamedIsAnError) {
  try {
    user_of(Credentials(directory_ / "missing.json"), "h.example/repo");
    FAIL() << "it is missing";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr("missing.json"));
  }
}

TEST_F(CredentialsTest, TheLongestPathCounts) {
  const auto entry = [](const std::string& key, const std::string& user) {
    return "\"" + key + R"(": {"auth": ")" + base64_encode(user + ":x") + "\"}";
  };
  write("auth.json", "{\"auths\": {" + entry("h.example", "host") + "," +
                         entry("h.example/team", "team") + "," +
                         entry("h.example/team/app", "app") + "}}");
  const Credentials credentials(directory_ / "auth.json");
  EXPECT_EQ(user_of(credentials, "h.example/team/app"), "app");
  EXPECT_EQ(user_of(credentials, "h.example/team/tool"), "team");
  EXPECT_EQ(user_of(credentials, "h.example/teams"), "host");
  EXPECT_EQ(user_of(credentials, "h.example:5000/team/app"), "nobody");
}

TEST_F(CredentialsTest, UrlsAreUnderstoodToo) {
  write_user("auth.json", "https://h.example:5000/v2/", "url");
  EXPECT_EQ(user_of(Credentials(directory_ / "auth.json"), "h.example:5000/repo"), "url");
  EXPECT_EQ(user_of(Credentials(directory_ / "auth.json"), "h.example/repo"), "nobody");
}

TEST_F(CredentialsTest, DockerHubHasAnOldName) {
  write_user("docker/config.json", "https://index.docker.io/v1/", "hub");
  EXPECT_EQ(user_of(Credentials(), "debian"), "hub");
  EXPECT_EQ(user_of(Credentials(), "h.example/debian"), "nobody");
}

TEST_F(CredentialsTest, AnEntryWithoutASecretIsPassedOver) {
  write("run/containers/auth.json",
        R"({"auths": {"h.example/repo": {}, "h.example": {"auth": ""}}})");
  write_user("docker/config.json", "h.example", "docker");
  EXPECT_EQ(user_of(Credentials(), "h.example/repo"), "docker");
}

TEST_F(CredentialsTest, ARenewedFileIsReadAnew) {
  write_user("auth.json", "h.example", "old");
  const Credentials credentials(directory_ / "auth.json");
  EXPECT_EQ(user_of(credentials, "h.example/repo"), "old");
  write_user("auth.json", "h.example", "new");
  EXPECT_EQ(user_of(credentials, "h.example/repo"), "new");
}

TEST_F(CredentialsTest, WhatIsMalformedIsAnErrorWithoutItsContents) {
  for (const auto* text :
       {"hunter2", "[]", R"({"auths": ["hunter2"]})", R"({"auths": {"h.example": {"auth": 7}}})",
        R"({"auths": {"h.example": {"auth": "hunter2!"}}})",
        R"({"auths": {"h.example": {"auth": "aHVudGVyMg=="}}})"}) {  // no colon
    write("auth.json", text);
    try {
      user_of(Credentials(directory_ / "auth.json"), "h.example/repo");
      FAIL() << text;
    } catch (const CorruptError& error) {
      EXPECT_THAT(error.what(), HasSubstr("auth.json"));
      EXPECT_THAT(error.what(), testing::Not(HasSubstr("hunter2")));
    }
  }
}

TEST_F(CredentialsTest, AnIdentityTokenIsEnough) {
  write("auth.json", R"({"auths": {"h.example": {"identitytoken": "id-7", "auth": ""}}})");
  const auto found =
      Credentials(directory_ / "auth.json").find(format::parse_registry_name("h.example/repo"));
  ASSERT_TRUE(found);
  EXPECT_EQ(found->identity_token, "id-7");
  EXPECT_EQ(found->user, "");
}

/// Helpers are scripts in a directory of $PATH.
class CredentialHelperTest : public CredentialsTest {
 protected:
  void make_helper(const std::string& name, const std::string& script) const {
    const auto program = "bin/docker-credential-" + name;
    write(program, "#!/bin/sh\n" + script + "\n");
    fs::permissions(directory_ / program, fs::perms::owner_all);
  }
  /// One that keeps a password, for one server.
  void make_keeper(const std::string& name, const std::string& server, const std::string& user) {
    make_helper(name, "read -r server || true\n[ \"$1\" = get ] && [ \"$server\" = '" + server +
                          "' ] || { echo credentials not found in native keychain; exit 1; }\n" +
                          R"(echo '{"ServerURL": "x", "Username": ")" + user +
                          R"(", "Secret": "secret"}')");
  }

  ScopedVariable path_{"PATH", path("bin") + ":" + std::getenv("PATH")};
};

TEST_F(CredentialHelperTest, ForAHostComesFirst) {
  make_keeper("one", "h.example", "helped");
  write("auth.json", R"({"credHelpers": {"h.example": "one"}, "auths": {"h.example": {"auth": ")" +
                         base64_encode("entry:x") + R"("}, "o.example": {"auth": ")" +
                         base64_encode("other:x") + "\"}}}");
  const Credentials credentials(directory_ / "auth.json");
  EXPECT_EQ(user_of(credentials, "h.example/repo"), "helped");
  EXPECT_EQ(user_of(credentials, "o.example/repo"), "other");
}

TEST_F(CredentialHelperTest, ForAllHostsComesLast) {
  make_keeper("store", "h.example", "helped");
  write("docker/config.json", R"({"credsStore": "store", "auths": {"h.example": {}}})");
  EXPECT_EQ(user_of(Credentials(), "h.example/repo"), "helped");
  EXPECT_EQ(user_of(Credentials(), "o.example/repo"), "nobody");
  write_user("run/containers/auth.json", "h.example", "entry");
  EXPECT_EQ(user_of(Credentials(), "h.example/repo"), "entry");
}

TEST_F(CredentialHelperTest, KnowsDockerHubByItsOldName) {
  make_keeper("store", "https://index.docker.io/v1/", "hub");
  write("docker/config.json", R"({"credsStore": "store"})");
  EXPECT_EQ(user_of(Credentials(), "debian"), "hub");
}

TEST_F(CredentialHelperTest, KnowsDockerHubByItsNameInImages) {
  make_keeper("store", "docker.io", "hub");
  write("docker/config.json", R"({"credsStore": "store"})");
  EXPECT_EQ(user_of(Credentials(), "debian"), "hub");
  EXPECT_EQ(user_of(Credentials(), "h.example/debian"), "nobody");
}

TEST_F(CredentialHelperTest, IsAskedForDockerHubByItsOldNameFirst) {
  make_helper("store",
              "read -r server || true\n"
              R"(echo "{\"Username\": \"$server\", \"Secret\": \"secret\"}")");
  write("docker/config.json", R"({"credsStore": "store"})");
  EXPECT_EQ(user_of(Credentials(), "debian"), "https://index.docker.io/v1/");
  EXPECT_EQ(user_of(Credentials(), "h.example/debian"), "h.example");
}

TEST_F(CredentialHelperTest, ForDockerHubIsNamedInManyWays) {
  make_keeper("hub", "https://index.docker.io/v1/", "hub");
  for (const std::string key :
       {"docker.io", "index.docker.io", "registry-1.docker.io", "https://index.docker.io/v1/"}) {
    write("auth.json", R"({"credHelpers": {")" + key + R"(": "hub"}})");
    EXPECT_EQ(user_of(Credentials(directory_ / "auth.json"), "debian"), "hub") << key;
    EXPECT_EQ(user_of(Credentials(directory_ / "auth.json"), "h.example/debian"), "nobody") << key;
  }
}

TEST_F(CredentialHelperTest, MayGiveAnIdentityToken) {
  make_keeper("store", "h.example", "<token>");
  write("docker/config.json", R"({"credsStore": "store"})");
  const auto found = Credentials().find(format::parse_registry_name("h.example/repo"));
  ASSERT_TRUE(found);
  EXPECT_EQ(found->identity_token, "secret");
  EXPECT_EQ(found->user, "");
}

TEST_F(CredentialHelperTest, ThatFailsIsPassedOver) {
  make_helper("broken", "echo hunter2; echo out of order >&2; exit 3");
  make_helper("liar", "echo hunter2");
  for (const auto* name : {"broken", "liar", "missing", "../bin/liar"}) {
    write("docker/config.json", R"({"credsStore": ")" + std::string(name) + "\"}");
    EXPECT_EQ(user_of(Credentials(), "h.example/repo"), "nobody") << name;
  }
}

TEST_F(CredentialHelperTest, IsNamedWhenItFailsButNotQuoted) {
  make_helper("broken", "echo hunter2; echo out of order >&2; exit 3");
  make_helper("liar", R"(echo '{"Username": "me", "Secrets": "hunter2"}')");
  for (const auto& [name, reason] :
       {std::pair("broken", "out of order"), std::pair("liar", "without a \"Secret\"")}) {
    try {
      ask_credential_helper(name, "h.example");
      FAIL() << name;
    } catch (const Error& error) {
      EXPECT_THAT(error.what(), HasSubstr(std::string("docker-credential-") + name));
      EXPECT_THAT(error.what(), HasSubstr(reason));
      EXPECT_THAT(error.what(), testing::Not(HasSubstr("hunter2")));
    }
  }
  EXPECT_THROW(ask_credential_helper("missing", "h.example"), NotFoundError);
}

TEST(Base64, IsItsOwnInverse) {
  for (const std::string text : {"", "a", "ab", "abc", "abcd", "user:p\xc3\xa4ss"}) {
    EXPECT_EQ(base64_decode(base64_encode(text)), text);
  }
}

TEST(Base64, PaddingMayBeMissing) {
  EXPECT_EQ(base64_decode("YWI"), "ab");
  EXPECT_EQ(base64_decode("YWI="), "ab");
}

TEST(Base64, OtherTextIsRefused) {
  EXPECT_EQ(base64_decode("a"), std::nullopt);
  EXPECT_EQ(base64_decode("a=bc"), std::nullopt);
  EXPECT_EQ(base64_decode("YWI\n"), std::nullopt);
}

}  // namespace
}  // namespace puzzlefs::fetch
