// Names of images as people type them.
#include "format/image_name.h"

#include <gtest/gtest.h>

#include <fstream>

#include "../support/temp_dir.h"
#include "format/error.h"

namespace puzzlefs::format {
namespace {

const std::string kHex(64, 'a');

TEST(RegistryName, FillsInWhatDockerHubLeavesOut) {
  EXPECT_EQ(parse_registry_name("debian").to_string(), "docker.io/library/debian:latest");
  EXPECT_EQ(parse_registry_name("debian:12").to_string(), "docker.io/library/debian:12");
  EXPECT_EQ(parse_registry_name("me/app").to_string(), "docker.io/me/app:latest");
  EXPECT_EQ(parse_registry_name("docker.io/debian").repository, "library/debian");
  EXPECT_EQ(parse_registry_name("index.docker.io/me/app").host, "docker.io");
  EXPECT_EQ(parse_registry_name("debian").connect_host(), "registry-1.docker.io");
}

TEST(RegistryName, KnowsAHostByItsDotPortOrName) {
  EXPECT_EQ(parse_registry_name("localhost/app").host, "localhost");
  EXPECT_EQ(parse_registry_name("reg:5000/app").host, "reg:5000");
  EXPECT_EQ(parse_registry_name("ghcr.io/o/app").repository, "o/app");
  EXPECT_EQ(parse_registry_name("[::1]:5000/app:1").to_string(), "[::1]:5000/app:1");
  EXPECT_EQ(parse_registry_name("docker://ghcr.io/o/app").to_string(), "ghcr.io/o/app:latest");
}

TEST(RegistryName, AsksByDigestWhenThereIsOne) {
  const auto name = parse_registry_name("ghcr.io/o/app:1@sha256:" + kHex);
  EXPECT_EQ(name.tag, "1");
  EXPECT_EQ(name.reference(), "sha256:" + kHex);
  EXPECT_EQ(parse_registry_name("ghcr.io/o/app@sha256:" + kHex).tag, "");
}

TEST(RegistryName, RefusesWhatTheGrammarForbids) {
  for (const std::string_view text :
       {"", "Debian", "ghcr.io/", "ghcr.io/a//b", "ghcr.io/-a", "ghcr.io/a___b", "ghcr.io/a..b",
        "ghcr.io/a:", "ghcr.io/a:.b", "ghcr.io/a@sha256:12", "ghcr.io:99999/a", "ghcr.io:x/a",
        "gh_cr.io/a", "ghcr.io/a b", "ghcr.io/a?b", "ghcr.io/a:b/c", "[::1/a", "ghcr.io/a@md5:x"})
    EXPECT_THROW(parse_registry_name(text), UsageError) << text;
  EXPECT_THROW(parse_registry_name("ghcr.io/a:" + std::string(129, 'x')), UsageError);
  EXPECT_NO_THROW(parse_registry_name("ghcr.io/a__b.c-d--e/f_g"));
}

std::string refusal_of_name(std::string_view text) {
  try {
    parse_image_name(text);
  } catch (const UsageError& error) {
    return error.what();
  }
  return "no error";
}

TEST(RegistryName, IsNoUrl) {
  EXPECT_EQ(
      refusal_of_name("http://reg:5000/t"),
      "\"http://reg:5000/t\" is not an image name: write HOST/REPOSITORY without http://, and "
      "--plain-http for a registry without TLS.");
  EXPECT_EQ(refusal_of_name("https://reg/t"),
            "\"https://reg/t\" is not an image name: write HOST/REPOSITORY without https://.");
  EXPECT_NE(refusal_of_name("docker://http://reg/t").find("without http://"), std::string::npos);
}

TEST(RegistryName, IsMoreThanAHost) {
  EXPECT_EQ(refusal_of_name("127.0.0.1:5000"),
            "\"127.0.0.1:5000\" is a registry's host; name a repository too, as in "
            "127.0.0.1:5000/REPOSITORY, or a layout, as in ./127.0.0.1:5000.");
  for (const auto* text : {"localhost", "localhost:5000", "ghcr.io", "[::1]:5000", "docker.io"}) {
    EXPECT_NE(refusal_of_name(text).find("name a repository too"), std::string::npos) << text;
    EXPECT_THROW(parse_registry_name(text), UsageError) << text;
  }
  EXPECT_NE(refusal_of_name("docker://ghcr.io").find("name a repository too"), std::string::npos);
  EXPECT_EQ(parse_registry_name("registry:2").to_string(), "docker.io/library/registry:2");
  EXPECT_EQ(parse_registry_name("odd.name:v1").to_string(), "docker.io/library/odd.name:v1");
}

TEST(RegistryName, IsSaidInFullWhereDockerHubIsImplied) {
  EXPECT_EQ(implied_name("debian:12"), "docker.io/library/debian:12");
  EXPECT_EQ(implied_name("me/app"), "docker.io/me/app");
  for (const auto* text : {"docker://debian", "docker.io/debian", "localhost/app", "reg:5000/app",
                           "oci:debian", "./debian", "/debian"})
    EXPECT_EQ(implied_name(text), std::nullopt) << text;
}

TEST(LayoutName, SplitsTheTagBehindTheLastSlash) {
  EXPECT_EQ(parse_layout_name("/srv/oci:v1"), (LayoutName{"/srv/oci", "v1"}));
  EXPECT_EQ(parse_layout_name("/srv:x/oci"), (LayoutName{"/srv:x/oci", ""}));
  EXPECT_EQ(parse_layout_name("oci:dir:v1"), (LayoutName{"dir", "v1"}));
  EXPECT_THROW(parse_layout_name(":v1"), UsageError);
  EXPECT_THROW(parse_layout_name("dir:"), UsageError);
}

TEST(LayoutName, IsOfNoOtherTransport) {
  for (const auto* text : {"docker://reg/t", "oci-archive:x.tar"})
    EXPECT_THROW(parse_layout_name(text), UsageError) << text;
  EXPECT_EQ(parse_layout_name("./docker://x").path, "./docker://x");
  EXPECT_EQ(parse_layout_name("oci:oci-archive").path, "oci-archive");
}

TEST(LayoutName, TakesAnExistingLayoutWithAColonInItsNameAsItIs) {
  const test::TempDir dir;
  const auto path = dir / "odd:name";
  std::filesystem::create_directory(path);
  std::ofstream(path / "oci-layout") << "{}";
  EXPECT_EQ(parse_layout_name(path.string()), (LayoutName{path, ""}));
  EXPECT_EQ(parse_layout_name(path.string() + ":v1"), (LayoutName{path, "v1"}));
}

TEST(ImageName, ChoosesBetweenLayoutAndRegistry) {
  const test::TempDir dir;
  std::ofstream(dir / "oci-layout") << "{}";
  const auto is_layout = [](const std::string& text) {
    return std::holds_alternative<LayoutName>(parse_image_name(text));
  };
  EXPECT_TRUE(is_layout("/nowhere/at:all"));
  EXPECT_TRUE(is_layout("./relative"));
  EXPECT_TRUE(is_layout("oci:relative"));
  EXPECT_TRUE(is_layout(dir.path().string() + ":tag"));
  EXPECT_FALSE(is_layout("debian:12"));
  EXPECT_FALSE(is_layout("docker://debian"));
  std::filesystem::current_path(dir.path().parent_path());
  EXPECT_TRUE(is_layout(dir.path().filename().string() + ":tag"));
  EXPECT_THROW(parse_image_name("oci-archive:x.tar"), UsageError);
}

TEST(Loopback, IsOnlyThisMachine) {
  for (const auto* host :
       {"localhost", "localhost:5000", "127.0.0.1:5000", "127.8.9.1", "[::1]:5000"})
    EXPECT_TRUE(is_loopback(host)) << host;
  for (const auto* host : {"127.0.0.1.evil.example", "localhost.evil.example", "128.0.0.1",
                           "[::2]:5000", "127.evil", "127.0.0"})
    EXPECT_FALSE(is_loopback(host)) << host;
}

}  // namespace
}  // namespace puzzlefs::format
