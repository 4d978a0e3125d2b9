#include "fetch/registries_conf.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cerrno>
#include <fstream>

#include "../support/environment.h"
#include "../support/temp_dir.h"
#include "format/error.h"

namespace puzzlefs::fetch {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

class RegistriesConfTest : public testing::Test {
 protected:
  std::filesystem::path write(const std::string& name, const std::string& text) {
    const auto file = directory_ / name;
    std::filesystem::create_directories(file.parent_path());
    std::ofstream(file) << text;
    return file;
  }
  RegistriesConf conf(const std::string& text) {
    return RegistriesConf::read({write("registries.conf", text)});
  }
  static PullSources sources(const RegistriesConf& conf, const std::string& name) {
    return conf.pull_sources(format::parse_registry_name(name));
  }
  /// Where the registry's own part of that repository is.
  static std::string location(const RegistriesConf& conf, const std::string& name) {
    return sources(conf, name).registry.name.to_string();
  }
  static std::vector<std::string> mirrors(const RegistriesConf& conf, const std::string& name) {
    std::vector<std::string> result;
    for (const auto& mirror : sources(conf, name).mirrors) {
      result.push_back(mirror.name.to_string());
    }
    return result;
  }
  std::string complaint(const std::string& text) {
    try {
      sources(conf(text), "registry.example/app");
    } catch (const CorruptError& error) {
      return error.what();
    }
    return "no complaint";
  }

  test::TempDir directory_;
};

TEST_F(RegistriesConfTest, WithoutFilesEverythingIsWhereItsNameSays) {
  const auto conf = RegistriesConf::read({directory_ / "none"});
  EXPECT_EQ(location(conf, "registry.example/app:1"), "registry.example/app:1");
  EXPECT_THAT(mirrors(conf, "registry.example/app:1"), IsEmpty());
}

TEST_F(RegistriesConfTest, MirrorsTakeThePlaceOfThePrefix) {
  const auto rules = conf(R"(
    unqualified-search-registries = ["docker.io"]
    [[registry]]
    location = "docker.io"
    [[registry.mirror]]
    location = "mirror.example:5000/hub"
    insecure = true
    [[registry.mirror]]
    location = "second.example"
    pull-from-mirror = "digest-only"
  )");
  EXPECT_THAT(mirrors(rules, "debian:12"), ElementsAre("mirror.example:5000/hub/library/debian:12",
                                                       "second.example/library/debian:12"));
  const auto found = sources(rules, "debian:12").mirrors;
  EXPECT_TRUE(found.at(0).insecure);
  EXPECT_EQ(found.at(0).use, PullFromMirror::kAll);
  EXPECT_FALSE(found.at(1).insecure);
  EXPECT_EQ(found.at(1).use, PullFromMirror::kDigestOnly);
  EXPECT_THAT(mirrors(rules, "registry.example/app"), IsEmpty());
}

TEST_F(RegistriesConfTest, TheLongestPrefixDecides) {
  const auto rules = conf(R"(
    [[registry]]
    prefix = "*.example"
    location = "wild.test"
    [[registry]]
    prefix = "registry.example/team"
    location = "team.test/ours"
    [[registry]]
    prefix = "registry.example"
    location = "all.test"
  )");
  EXPECT_EQ(location(rules, "registry.example/team/app:1"), "team.test/ours/app:1");
  EXPECT_EQ(location(rules, "registry.example/teams/app:1"), "all.test/teams/app:1");
  EXPECT_EQ(location(rules, "other.example/app:1"), "wild.test/app:1");
  EXPECT_EQ(location(rules, "example/app:1"), "docker.io/example/app:1");
}

TEST_F(RegistriesConfTest, ASlashAtTheEndSaysNothing) {
  const auto rules = conf(R"(
    [[registry]]
    location = "bad.example/"
    blocked = true
    [[registry]]
    prefix = "registry.example//"
    location = "other.example/"
    [[registry.mirror]]
    location = "mirror.example/cache/"
  )");
  EXPECT_THROW(sources(rules, "bad.example/app"), Error);
  EXPECT_EQ(location(rules, "registry.example/app:1"), "other.example/app:1");
  EXPECT_THAT(mirrors(rules, "registry.example/app:1"), ElementsAre("mirror.example/cache/app:1"));
}

TEST_F(RegistriesConfTest, AWildcardMayHaveAPath) {
  const auto rules = conf("[[registry]]\nprefix = \"*.example/team\"\nlocation = \"team.test\"\n");
  EXPECT_EQ(location(rules, "a.b.example/team/app:1"), "team.test/app:1");
  EXPECT_EQ(location(rules, "a.example/teams/app:1"), "a.example/teams/app:1");
  EXPECT_EQ(location(rules, "a.test/b.example/team/app:1"), "a.test/b.example/team/app:1");
}

TEST_F(RegistriesConfTest, ABlockedRegistryIsRefusedAndTheFileIsNamed) {
  const auto rules = conf("[[registry]]\nprefix = \"bad.example\"\nblocked = true\n");
  try {
    sources(rules, "bad.example/app");
    FAIL() << "not refused";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), EACCES);
    EXPECT_THAT(error.what(), HasSubstr("registries.conf"));
  }
  EXPECT_THROW(rules.is_insecure(format::parse_registry_name("bad.example/app")), Error);
}

TEST_F(RegistriesConfTest, LaterFilesDecideAboutTheirPrefixesOnly) {
  const auto rules = RegistriesConf::read(
      {write("a.conf",
             "[[registry]]\nprefix=\"one.example\"\nlocation=\"a.test\"\n"
             "[[registry]]\nprefix=\"two.example\"\nlocation=\"a.test\"\n"),
       write("b.conf", "[[registry]]\nprefix=\"two.example\"\nlocation=\"b.test\"\n")});
  EXPECT_EQ(location(rules, "one.example/app:1"), "a.test/app:1");
  EXPECT_EQ(location(rules, "two.example/app:1"), "b.test/app:1");
}

TEST_F(RegistriesConfTest, TheUsersOwnFileIsReadWithItsDropIns) {
  write(".config/containers/registries.conf",
        "[[registry]]\nprefix=\"one.example\"\nlocation=\"own.test\"\n");
  write(".config/containers/registries.conf.d/10-more.conf",
        "[[registry]]\nprefix=\"two.example\"\nlocation=\"more.test\"\n");
  write(".config/containers/registries.conf.d/ignored.txt", "no TOML");
  const test::ScopedVariable home("HOME", directory_.path().native());
  const test::ScopedVariable unset("CONTAINERS_REGISTRIES_CONF", std::nullopt);
  const auto rules = RegistriesConf::load();
  EXPECT_EQ(location(rules, "one.example/app:1"), "own.test/app:1");
  EXPECT_EQ(location(rules, "two.example/app:1"), "more.test/app:1");
}

TEST_F(RegistriesConfTest, AFileThatTheEnvironmentNamesMustBeThere) {
  const test::ScopedVariable named("CONTAINERS_REGISTRIES_CONF",
                                   (directory_ / "none.conf").native());
  EXPECT_THROW(RegistriesConf::load(), NotFoundError);
}

TEST_F(RegistriesConfTest, WhatIsNotValidIsNamed) {
  EXPECT_THAT(complaint("[[registry]\n"), HasSubstr("line 1"));
  EXPECT_THAT(complaint("[registry]\nprefix=\"a\"\n"), HasSubstr("[[registry]]"));
  EXPECT_THAT(complaint("registry = [1]\n"), HasSubstr("no table"));
  EXPECT_THAT(complaint("[[registry]]\ninsecure = true\n"), HasSubstr("neither prefix"));
  EXPECT_THAT(complaint("[[registry]]\nlocation = \"http://a.b\"\n"), HasSubstr("scheme"));
  EXPECT_THAT(complaint("[[registry]]\nprefix = 1\n"), HasSubstr("\"prefix\""));
  EXPECT_THAT(complaint("[[registry]]\nprefix=\"a.b\"\n[[registry.mirror]]\n"),
              HasSubstr("without a location"));
  EXPECT_THAT(complaint("[[registry]]\nprefix=\"a.b\"\n[[registry.mirror]]\nlocation=\"m.b\"\n"
                        "pull-from-mirror=\"never\"\n"),
              HasSubstr("never"));
  EXPECT_THAT(complaint("[[registry]]\nprefix=\"registry.example\"\nlocation=\"a b\"\n"),
              HasSubstr("a b"));
}

}  // namespace
}  // namespace puzzlefs::fetch
