// Where credentials are kept, and what becomes of what else is there.
#include "fetch/credential_store.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/fsuid.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <nlohmann/json.hpp>
#include <thread>

#include "../support/environment.h"
#include "../support/temp_dir.h"
#include "fetch/base64.h"
#include "fetch/credential_helper.h"
#include "fetch/credentials.h"
#include "format/error.h"

namespace puzzlefs::fetch {
namespace {

namespace fs = std::filesystem;
using test::ScopedVariable;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;
using Json = nlohmann::ordered_json;

constexpr const char* kHubUrl = "https://index.docker.io/v1/";

Credential me(const std::string& password = "hunter2") {
  return {.user = "me", .password = password};
}

std::string encoded(const std::string& text) {
  return R"({"auth": ")" + base64_encode(text) + "\"}";
}

unsigned mode_of(const fs::path& path) {
  struct stat status {};
  EXPECT_EQ(::lstat(path.c_str(), &status), 0) << path;
  return status.st_mode & 07777;
}

std::string message_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

class CredentialStoreTest : public testing::Test {
 protected:
  std::string path(const fs::path& name) const { return (directory_ / name).string(); }
  void write(const fs::path& name, const std::string& text) const {
    fs::create_directories((directory_ / name).parent_path());
    std::ofstream(directory_ / name) << text;
  }
  std::string text(const fs::path& name) const {
    std::ifstream file(directory_ / name);
    return {std::istreambuf_iterator<char>(file), {}};
  }
  Json json(const fs::path& name) const { return Json::parse(text(name)); }
  CredentialStore store() const { return CredentialStore(directory_ / "auth.json"); }

  /// What commands find, "USER:PASSWORD".
  static std::string found(const std::string& name, const Credentials& credentials) {
    const auto result = credentials.find(format::parse_registry_name(name));
    return result ? result->user + ":" + result->password : "nothing";
  }
  std::string found(const std::string& name) const {
    return found(name, Credentials(directory_ / "auth.json"));
  }

  test::TempDir directory_;
  ScopedVariable file_{"REGISTRY_AUTH_FILE", std::nullopt};
  ScopedVariable runtime_{"XDG_RUNTIME_DIR", path("run")};
  ScopedVariable config_{"XDG_CONFIG_HOME", path("config")};
  ScopedVariable docker_{"DOCKER_CONFIG", path("docker")};
};

TEST_F(CredentialStoreTest, WhatIsStoredIsFound) {
  EXPECT_EQ(store().store({"h.example:5000", ""}, me("a:b")), "");
  EXPECT_EQ(found("h.example:5000/repo"), "me:a:b");
  EXPECT_EQ(json("auth.json"),
            Json::parse(R"({"auths": {"h.example:5000": )" + encoded("me:a:b") + "}}"));
  store().store({"h.example:5000", "team"}, {.user = "team", .password = "x"});
  EXPECT_EQ(found("h.example:5000/team/app"), "team:x");
  EXPECT_EQ(found("h.example:5000/repo"), "me:a:b");
}

TEST_F(CredentialStoreTest, TheFirstDefaultPlaceIsMadeForItsOwnerAlone) {
  CredentialStore().store({"h.example", ""}, me());
  EXPECT_EQ(found("h.example/repo", Credentials()), "me:hunter2");
  EXPECT_EQ(mode_of(directory_ / "run"), 0700U);
  EXPECT_EQ(mode_of(directory_ / "run/containers"), 0700U);
  EXPECT_EQ(mode_of(directory_ / "run/containers/auth.json"), 0600U);
}

TEST_F(CredentialStoreTest, TheVariableNamesAnotherFile) {
  const ScopedVariable variable("REGISTRY_AUTH_FILE", path("named/auth.json"));
  CredentialStore().store({"h.example", ""}, me());
  EXPECT_EQ(found("h.example/repo", Credentials(directory_ / "named/auth.json")), "me:hunter2");
  EXPECT_FALSE(fs::exists(directory_ / "run"));
}

TEST_F(CredentialStoreTest, AFileThatOthersCouldReadIsClosedToThem) {
  write("auth.json", "{}");
  fs::permissions(directory_ / "auth.json", fs::perms(0644));
  store().store({"h.example", ""}, me());
  EXPECT_EQ(mode_of(directory_ / "auth.json"), 0600U);
}

TEST_F(CredentialStoreTest, WhatElseIsInTheFileStaysAndInItsOrder) {
  const std::string others =
      R"("zeta": [1, {"b": null, "a": 2.5}], "auths": {"z.example": {"auth": "eDp5", "email": "e"},)"
      R"("a.example": {}}, "HttpHeaders": {"User-Agent": "ä"}, "credHelpers": {"x.example": "x"})";
  write("auth.json", "{" + others + "}");
  const auto before = json("auth.json").dump();
  store().store({"h.example", ""}, me());
  auto after = json("auth.json");
  EXPECT_EQ(after["auths"]["h.example"], Json::parse(encoded("me:hunter2")));
  after["auths"].erase("h.example");
  EXPECT_EQ(after.dump(), before);
  EXPECT_TRUE(store().erase({"h.example", ""}));
  EXPECT_EQ(json("auth.json").dump(), before);
}

TEST_F(CredentialStoreTest, ANewPasswordTakesThePlaceOfAnIdentityToken) {
  write("auth.json", R"({"auths": {"h.example": {"identitytoken": "id-7", "auth": ""}}})");
  store().store({"h.example", ""}, me());
  const auto result =
      Credentials(directory_ / "auth.json").find(format::parse_registry_name("h.example/repo"));
  ASSERT_TRUE(result);
  EXPECT_EQ(result->identity_token, "");
  EXPECT_EQ(result->password, "hunter2");
}

TEST_F(CredentialStoreTest, AnEmptyFileIsOneWithoutLogins) {
  write("auth.json", "");
  EXPECT_EQ(found("h.example/repo"), "nothing");
  store().store({"h.example", ""}, me());
  EXPECT_EQ(found("h.example/repo"), "me:hunter2");
}

TEST_F(CredentialStoreTest, AMalformedFileIsLeftAlone) {
  for (const std::string malformed :
       {"{\"auths\": {}", "[]", R"({"auths": []})", R"({"auths": {}, "credHelpers": "x"})",
        R"({"credsStore": {}, "auths": {}})"}) {
    write("auth.json", malformed);
    EXPECT_THAT(message_of([&] {
                  store().store({"h.example", ""}, me());
                }),
                testing::AllOf(HasSubstr("auth.json"), Not(HasSubstr("hunter2"))))
        << malformed;
    EXPECT_THROW(store().erase({"h.example", ""}), CorruptError) << malformed;
    EXPECT_EQ(text("auth.json"), malformed);
  }
  EXPECT_EQ(std::distance(fs::directory_iterator(directory_.path()), {}), 1);
}

TEST_F(CredentialStoreTest, ALinkStaysALink) {
  fs::create_directories(directory_ / "real");
  fs::create_symlink("real/second.json", directory_ / "first.json");
  fs::create_symlink("first.json", directory_ / "auth.json");
  fs::create_symlink("target.json", directory_ / "real/second.json");  // leads nowhere yet
  for (const auto* host : {"a.example", "b.example"}) store().store({host, ""}, me());
  EXPECT_TRUE(fs::is_symlink(directory_ / "auth.json"));
  EXPECT_TRUE(fs::is_symlink(directory_ / "first.json"));
  EXPECT_TRUE(fs::is_symlink(directory_ / "real/second.json"));
  EXPECT_EQ(json("real/target.json")["auths"].size(), 2U);
}

TEST_F(CredentialStoreTest, LinksInACircleAreAnError) {
  fs::create_symlink("auth.json", directory_ / "auth.json");
  EXPECT_THAT(message_of([&] { store().store({"h.example", ""}, me()); }), HasSubstr("auth.json"));
}

TEST_F(CredentialStoreTest, ManyWritersLoseNothingAndReadersSeeNoHalfFile) {
  constexpr int kWriters = 8;
  constexpr int kKeys = 10;
  write("auth.json", "{}");
  std::atomic<bool> done = false;
  std::thread reader([&] {
    while (!done) EXPECT_NO_THROW(found("h0.example/repo"));
  });
  std::vector<std::thread> writers;
  for (int writer = 0; writer < kWriters; ++writer) {
    writers.emplace_back([&, writer] {
      for (int key = 0; key < kKeys; ++key) {
        const auto host = "h" + std::to_string(writer) + ".example";
        store().store({host, "team" + std::to_string(key)}, me());
      }
      store().erase({"h" + std::to_string(writer) + ".example", "team0"});
    });
  }
  for (auto& thread : writers) thread.join();
  done = true;
  reader.join();
  EXPECT_EQ(json("auth.json")["auths"].size(), std::size_t{kWriters * (kKeys - 1)});
  EXPECT_EQ(std::distance(fs::directory_iterator(directory_.path()), {}), 1);
}

/// Files as nobody sees them: root may write everywhere.
class AsNobody {
 public:
  AsNobody() { ::setfsuid(65534); }
  ~AsNobody() { ::setfsuid(::geteuid()); }
  AsNobody(const AsNobody&) = delete;
  AsNobody& operator=(const AsNobody&) = delete;
};

TEST_F(CredentialStoreTest, ADirectoryThatCannotBeWrittenToIsNamed) {
  fs::create_directories(directory_ / "closed");
  fs::permissions(directory_.path(), fs::perms(0555));
  fs::permissions(directory_ / "closed", fs::perms(0555));
  for (const auto* file : {"closed/auth.json", "closed/deeper/auth.json"}) {
    const CredentialStore closed(directory_ / file);
    const AsNobody nobody;
    EXPECT_THAT(message_of([&] {
                  closed.store({"h.example", ""}, me());
                }),
                testing::AllOf(HasSubstr("closed"), HasSubstr("Permission denied"),
                               HasSubstr("--authfile")));
  }
  fs::permissions(directory_.path(), fs::perms(0755));
  fs::permissions(directory_ / "closed", fs::perms(0755));
}

TEST_F(CredentialStoreTest, DockerHubHasTheKeyThatPodmanReads) {
  write("auth.json", "{\"auths\": {\"" + std::string(kHubUrl) + "\": " + encoded("old:x") + "}}");
  store().store(parse_login_target(kHubUrl), me());
  EXPECT_EQ(json("auth.json")["auths"]["docker.io"], Json::parse(encoded("me:hunter2")));
  EXPECT_EQ(found("debian"), "me:hunter2");
}

TEST_F(CredentialStoreTest, ErasesARegistryByAllItsNamesAndNoOtherOne) {
  write("auth.json", R"({"auths": {"docker.io": )" + encoded("a:x") + R"(, "index.docker.io": )" +
                         encoded("b:x") + ", \"" + kHubUrl + "\": " + encoded("c:x") +
                         R"(, "docker.io/team": )" + encoded("team:x") +
                         R"(, "h.example": {}, "https://h.example/v2/": )" + encoded("d:x") + "}}");
  EXPECT_EQ(found("debian"), "a:x");
  EXPECT_TRUE(store().erase(parse_login_target("registry-1.docker.io")));
  EXPECT_EQ(found("debian"), "nothing");
  EXPECT_EQ(found("docker.io/team/app"), "team:x");
  EXPECT_EQ(found("h.example/repo"), "d:x");
  EXPECT_FALSE(store().erase(parse_login_target("docker.io")));
  EXPECT_TRUE(store().erase(parse_login_target("docker.io/team")));
  EXPECT_TRUE(store().erase(parse_login_target("h.example")));
  EXPECT_EQ(json("auth.json"), Json::parse(R"({"auths": {}})"));
}

TEST_F(CredentialStoreTest, NothingIsMadeWhereNothingIsErased) {
  EXPECT_FALSE(CredentialStore().erase({"h.example", ""}));
  EXPECT_THAT(CredentialStore().erase_all(), ElementsAre());
  EXPECT_FALSE(fs::exists(directory_ / "run"));
  EXPECT_THROW(store().erase({"h.example", ""}), NotFoundError);  // the user named it
}

TEST_F(CredentialStoreTest, ErasesAll) {
  store().store({"h.example", ""}, me());
  store().store({"a.example", "team"}, me());
  EXPECT_THAT(store().erase_all(), ElementsAre("a.example/team", "h.example"));
  EXPECT_EQ(json("auth.json"), Json::parse(R"({"auths": {}})"));
  EXPECT_THAT(store().erase_all(), ElementsAre());
}

TEST_F(CredentialStoreTest, KnowsWhichOtherPlaceStillHasALogin) {
  write("docker/config.json", R"({"auths": {"h.example": )" + encoded("docker:x") + "}}");
  write("config/containers/auth.json", "malformed");
  CredentialStore().store({"h.example", ""}, me());
  EXPECT_TRUE(CredentialStore().erase({"h.example", ""}));
  EXPECT_THAT(CredentialStore().others_with({"h.example", ""}),
              ElementsAre(directory_ / "docker/config.json"));
  EXPECT_THAT(CredentialStore().others_with({"o.example", ""}), ElementsAre());
  EXPECT_THAT(store().others_with({"h.example", ""}), ElementsAre());
}

constexpr const char* kKeeper = R"sh(
input=$(cat)
echo "$* $(env | grep -c hunter2)" >>../calls
name() { printf %s "$1" | tr / _; }
case $1 in
  store)
    server=$(printf %s "$input" | sed 's/.*"ServerURL":"\([^"]*\)".*/\1/')
    printf %s "$input" >"$(name "$server")"
    printf %s "$server" >"$(name "$server").server" ;;
  get)
    cat "$(name "$input")" 2>/dev/null || { echo credentials not found in native keychain; exit 1; } ;;
  erase)
    rm "$(name "$input")" "$(name "$input").server" ;;
  list)
    printf '{'
    for file in *.server; do
      [ -e "$file" ] && printf '%s"%s": "me"' "$comma" "$(cat "$file")" && comma=,
    done
    printf '}' ;;
esac
)sh";

/// The helper "keeper" keeps each server in a file of the directory "kept", and logs what it is
/// called with.
class HelperStoreTest : public CredentialStoreTest {
 protected:
  void SetUp() override {
    fs::create_directories(directory_ / "kept");
    make_helper("keeper", "cd '" + path("kept") + "' || exit 1\n" + kKeeper);
  }

  void make_helper(const std::string& name, const std::string& script) const {
    const auto program = "bin/docker-credential-" + name;
    write(program, "#!/bin/sh\n" + script + "\n");
    fs::permissions(directory_ / program, fs::perms::owner_all);
  }
  std::vector<std::string> kept() const {
    std::vector<std::string> names;
    for (const auto& entry : fs::directory_iterator(directory_ / "kept")) {
      if (entry.path().extension() != ".server") names.push_back(entry.path().filename());
    }
    std::sort(names.begin(), names.end());
    return names;
  }

  ScopedVariable path_{"PATH", path("bin") + ":" + std::getenv("PATH")};
};

TEST_F(HelperStoreTest, AHelperForTheHostKeepsIt) {
  write("auth.json", R"({"credHelpers": {"h.example": "keeper"}})");
  const auto before = text("auth.json");
  EXPECT_EQ(store().store({"h.example", ""}, me("hunter2 \"\\\n")), "keeper");
  EXPECT_EQ(text("auth.json"), before);
  EXPECT_EQ(found("h.example/repo"), "me:hunter2 \"\\\n");
  EXPECT_EQ(text("calls"), "store 0\nget 0\n");
  EXPECT_EQ(store().store({"o.example", ""}, me()), "");
  EXPECT_THAT(kept(), ElementsAre("h.example"));
}

TEST_F(HelperStoreTest, AHelperForAllHostsKeepsIt) {
  write("auth.json", R"({"credsStore": "keeper", "auths": {"h.example": )" + encoded("old:x") +
                         R"(, "o.example": )" + encoded("other:x") + "}}");
  EXPECT_EQ(store().store({"h.example", ""}, me()), "keeper");
  EXPECT_EQ(found("h.example/repo"), "me:hunter2");
  const auto left = R"({"o.example": )" + encoded("other:x") + "}";
  EXPECT_EQ(json("auth.json")["auths"], Json::parse(left));
}

TEST_F(HelperStoreTest, DockerHubIsWhatItsReadersCallIt) {
  write("auth.json", R"({"credsStore": "keeper"})");
  store().store({"docker.io", ""}, me("by docker"));
  EXPECT_THAT(kept(), ElementsAre("https:__index.docker.io_v1_"));
  EXPECT_EQ(found("debian"), "me:by docker");
  write("auth.json", R"({"credHelpers": {"docker.io": "keeper"}})");
  store().store({"docker.io", ""}, me("by podman"));
  EXPECT_THAT(kept(), ElementsAre("docker.io", "https:__index.docker.io_v1_"));
  EXPECT_EQ(found("debian"), "me:by podman");
  EXPECT_TRUE(store().erase({"docker.io", ""}));
  EXPECT_THAT(kept(), ElementsAre());
  EXPECT_EQ(found("debian"), "nothing");
}

TEST_F(HelperStoreTest, AHelperKeepsNothingForAPartOfARegistry) {
  write("auth.json", R"({"credHelpers": {"h.example": "keeper"}})");
  EXPECT_THROW(store().store({"h.example", "team"}, me()), UsageError);
  EXPECT_THAT(kept(), ElementsAre());
}

TEST_F(HelperStoreTest, ErasesFromTheHelperAndTheFile) {
  write("auth.json", R"({"credsStore": "keeper", "auths": {"o.example": )" + encoded("o:x") + "}}");
  store().store({"h.example", ""}, me());
  EXPECT_TRUE(store().erase({"h.example", ""}));
  EXPECT_THAT(kept(), ElementsAre());
  EXPECT_FALSE(store().erase({"h.example", ""}));
  EXPECT_TRUE(store().erase({"o.example", ""}));
}

TEST_F(HelperStoreTest, ErasesAllThatHelpersKeep) {
  write(
      "auth.json",
      R"({"credHelpers": {"h.example": "keeper", "none.example": "keeper", "b.example": "broken"},)"
      R"("auths": {"o.example": )" +
          encoded("o:x") + "}}");
  make_helper("broken", "echo out of order >&2; exit 3");
  store().store({"h.example", ""}, me());
  EXPECT_THAT(message_of([&] { store().erase_all(); }), HasSubstr("out of order"));
  EXPECT_THAT(kept(), ElementsAre());
  EXPECT_EQ(json("auth.json")["auths"].size(), 0U);
  write("auth.json", R"({"credsStore": "keeper"})");
  store().store({"h.example", ""}, me());
  store().store({"docker.io", ""}, me());
  EXPECT_THAT(store().erase_all(), ElementsAre("h.example", kHubUrl));
  EXPECT_THAT(kept(), ElementsAre());
}

TEST_F(HelperStoreTest, AHelperThatFailsIsNamedAndNothingIsKept) {
  make_helper("broken", "cat >&2; exit 3");
  make_helper("locked", "cat >/dev/null; echo the keychain is locked; exit 1");
  for (const auto& [name, reason] : {std::pair("broken", "fails"), std::pair("missing", "missing"),
                                     std::pair("locked", "the keychain is locked")}) {
    const auto document = R"({"credsStore": ")" + std::string(name) + "\"}";
    write("auth.json", document);
    EXPECT_THAT(message_of([&] {
                  store().store({"h.example", ""}, me());
                }),
                testing::AllOf(HasSubstr(std::string("docker-credential-") + name),
                               HasSubstr(reason), Not(HasSubstr("hunter2"))));
    EXPECT_EQ(text("auth.json"), document);
  }
  EXPECT_THAT(message_of([&] { store_in_credential_helper("keeper", "h.example", me("\xff")); }),
              HasSubstr("UTF-8"));
}

}  // namespace
}  // namespace puzzlefs::fetch
