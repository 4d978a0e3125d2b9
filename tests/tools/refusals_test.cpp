// What the command says to what cannot be meant, or was meant otherwise.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <utility>
#include <vector>

#include "../support/environment.h"
#include "../support/temp_dir.h"
#include "run_puzzlefs.h"

namespace puzzlefs::tools {
namespace {

TEST(Refusals, WrongUsageIsSaidAsAllErrors) {
  for (const std::vector<std::string>& arguments :
       std::vector<std::vector<std::string>>{{},
                                             {"conjure"},
                                             {"login"},
                                             {"build", "--threads", "many", "a", "b"},
                                             {"inspect", "Not/A/Name"}}) {
    const auto result = puzzlefs(arguments);
    EXPECT_TRUE(result.err.starts_with("puzzlefs: ")) << result.err;
  }
}

TEST(Refusals, APasswordIsNoArgumentAndNotRepeated) {
  for (const std::vector<std::string>& arguments : std::vector<std::vector<std::string>>{
           {"login", "-u", "me", "-p", "secret", "h.example"},
           {"login", "-u", "me", "--password=secret", "h.example"},
           {"login", "-psecret", "h.example"}}) {
    const auto result = puzzlefs(arguments);
    EXPECT_EQ(result.code, 2);
    EXPECT_NE(result.err.find("--password-stdin"), std::string::npos) << result.err;
    EXPECT_EQ(result.err.find("secret"), std::string::npos) << result.err;
  }
}

// Each is refused before a registry is asked, which would take a minute.
TEST(Refusals, SaysHowNamesAreWritten) {
  const std::vector<std::pair<std::vector<std::string>, std::string>> cases = {
      {{"push", "docker://h.example/t", "oci:x"}, "is an image in a registry"},
      {{"pull", "h.example/t", "docker://x/y"}, "is an image in a registry"},
      {{"pull", "h.example/t", "oci-archive:x"}, "archives cannot be read"},
      {{"tags", "http://127.0.0.1:1/t"}, "without http://"},
      {{"tags", "127.0.0.1:1"}, "127.0.0.1:1/REPOSITORY"},
      {{"copy", "127.0.0.1:1/t", "newlayout"},
       "\"newlayout\" means docker.io/library/newlayout; a new layout is written ./newlayout."},
      {{"copy", "127.0.0.1:1/t", "newlayout:v1"}, "is written ./newlayout:v1."},
      {{"digest", "--platform", "all", "127.0.0.1:1/t"}, "all is for push, pull and copy"},
      {{"inspect", "--platform", "all", "127.0.0.1:1/t"}, "all is for push, pull and copy"},
      {{"mount", "--platform", "all", "127.0.0.1:1/t", "d"}, "all is for push, pull and copy"}};
  for (const auto& [arguments, sentence] : cases) {
    const auto result = puzzlefs(arguments);
    EXPECT_EQ(result.code, 2) << testing::PrintToString(arguments);
    EXPECT_NE(result.err.find(sentence), std::string::npos) << result.err;
  }
}

// By registries.conf nothing is asked of Docker Hub here.
TEST(Refusals, ExplainsANameThatImpliedDockerHub) {
  const test::TempDir directory;
  const auto path = [&](const char* name) { return (directory / name).string(); };
  std::ofstream(path("registries.conf"))
      << "[[registry]]\nlocation = \"docker.io\"\nblocked = true\n";
  const test::ScopedVariable conf("CONTAINERS_REGISTRIES_CONF", path("registries.conf"));
  for (const std::vector<std::string>& arguments : std::vector<std::vector<std::string>>{
           {"tags", "new"},
           {"digest", "new"},
           {"copy", "new", path("copy")},
           {"inspect", "--cache-dir", path("cache"), "new"},
           {"extract", "--cache-dir", path("cache"), "new", path("tree")},
           {"mount", "-f", "--cache-dir", path("cache"), "new", path("mnt")}}) {
    const auto result = puzzlefs(arguments);
    EXPECT_EQ(result.code, 1);
    EXPECT_TRUE(result.err.ends_with(
        " \"new\" means docker.io/library/new, as there is no such layout here.\n"))
        << result.err;
  }
  EXPECT_EQ(puzzlefs({"tags", "docker.io/new"}).err.find("means"), std::string::npos);
}

}  // namespace
}  // namespace puzzlefs::tools
