// The command run in-process, as a shell would run it.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "../support/environment.h"
#include "../support/temp_dir.h"
#include "fetch/file_descriptor.h"
#include "run_puzzlefs.h"

namespace puzzlefs::tools {
namespace {

std::string read_text(const std::filesystem::path& path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), {}};
}

using testing::HasSubstr;

class BuiltImage : public testing::Test {
 protected:
  void SetUp() override {
    std::filesystem::create_directories(directory_ / "tree/sub");
    std::ofstream(directory_ / "tree/sub/file") << "contents";
    std::filesystem::create_symlink("sub/file", directory_ / "tree/link");
    const auto built = puzzlefs({"build", path("tree"), path("layout") + ":v1"});
    ASSERT_EQ(built.code, 0) << built.err;
    build_output_ = built.out;
  }

  std::string path(const std::string& name) const { return (directory_ / name).string(); }

  test::TempDir directory_;
  std::string build_output_;
};

TEST(CommandLine, WrongUsageIsTwo) {
  EXPECT_EQ(puzzlefs({}).code, 2);
  EXPECT_EQ(puzzlefs({"conjure"}).code, 2);
  EXPECT_EQ(puzzlefs({"build"}).code, 2);
  EXPECT_EQ(puzzlefs({"build", "a", "b", "c"}).code, 2);
  EXPECT_EQ(puzzlefs({"build", "--threads", "many", "a", "b"}).code, 2);
  EXPECT_EQ(puzzlefs({"inspect", "--format", "xml", "/nowhere"}).code, 2);
  EXPECT_EQ(puzzlefs({"inspect", "Not/A/Name"}).code, 2);
  EXPECT_EQ(puzzlefs({"extract", "--on-outage", "panic", "/nowhere", "d"}).code, 2);
  EXPECT_EQ(puzzlefs({"extract", "--on-outage", "fail:-1", "/nowhere", "d"}).code, 2);
}

TEST(CommandLine, FailureIsOneWithASentence) {
  const auto result = puzzlefs({"inspect", "/nowhere/at/all"});
  EXPECT_EQ(result.code, 1);
  EXPECT_NE(result.err.find("/nowhere/at/all"), std::string::npos);
  EXPECT_EQ(result.out, "");
}

// A subcommand that comes first is the only one that is set up.
TEST(CommandLine, ASubcommandIsUnderstoodFirstAsBehindAnOption) {
  std::istringstream help(puzzlefs({"--help"}).out);
  std::string line;
  while (std::getline(help, line) && line != "Subcommands:") continue;
  int count = 0;
  for (std::string name; help >> name && std::getline(help, line); ++count) {
    const auto first = puzzlefs({name, "--help"});
    EXPECT_EQ(first.code, 0) << name;
    EXPECT_EQ(first.out, puzzlefs({"-v", name, "--help"}).out) << name;
    EXPECT_EQ(puzzlefs({name, "--bogus"}).err, puzzlefs({"-v", name, "--bogus"}).err) << name;
  }
  EXPECT_EQ(count, 20);
}

TEST(CommandLine, VersionAndHelpGoToStandardOutput) {
  EXPECT_EQ(puzzlefs({"--version"}).out, "puzzlefs " PUZZLEFS_VERSION "\n");
  const auto help = puzzlefs({"mount", "--help"});
  EXPECT_EQ(help.code, 0);
  EXPECT_NE(help.out.find("--foreground"), std::string::npos);
}

TEST(CommandLine, LoginsThatCannotBeMeantAreWrongUsage) {
  const test::TempDir directory;
  const auto file = (directory / "auth.json").string();
  // A test has no terminal, so that what gets this far asks nobody.
  const fetch::FileDescriptor nothing(open("/dev/null", O_RDONLY | O_CLOEXEC));
  const fetch::FileDescriptor before(fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3));
  dup2(nothing.get(), STDIN_FILENO);
  for (const std::vector<std::string>& arguments : std::vector<std::vector<std::string>>{
           {"login"},
           {"login", "h.example"},
           {"login", "-u", "me", "h.example"},
           {"login", "--password-stdin", "h.example"},
           {"login", "-u", "me", "--password-stdin", "h.example"},  // the password is empty
           {"login", "-u", "m:e", "--password-stdin", "h.example"},
           {"login", "-u", "", "--password-stdin", "h.example"},
           {"login", "-u", "<token>", "--password-stdin", "h.example"},
           {"login", "-u", "me", "-p", "secret", "h.example"},
           {"login", "-u", "me", "--password-stdin", "h.example/team:1"},
           {"login", "-u", "me", "--password-stdin", "debian"},
           {"logout"},
           {"logout", "debian"},
           {"logout", "--all", "h.example"}}) {
    auto words = arguments;
    words.insert(words.begin() + 1, {"--authfile", file});
    const auto result = puzzlefs(words);
    EXPECT_EQ(result.code, 2) << testing::PrintToString(arguments) << result.err;
    EXPECT_EQ(result.out, "");
    EXPECT_NE(result.err, "");
  }
  EXPECT_NE(puzzlefs({"login", "h.example"}).err.find("--password-stdin"), std::string::npos);
  dup2(before.get(), STDIN_FILENO);
  EXPECT_FALSE(std::filesystem::exists(file));
}

TEST(CommandLine, LogoutWithoutALoginFailsWithASentence) {
  const test::TempDir directory;
  std::ofstream(directory / "auth.json") << "{}";
  const auto result =
      puzzlefs({"logout", "--authfile", (directory / "auth.json").string(), "h.example"});
  EXPECT_EQ(result.code, 1);
  EXPECT_NE(result.err.find("Not logged in to h.example"), std::string::npos);
}

TEST(CommandLine, RefusesALogLevelThatDoesNotExist) {
  setenv("PUZZLEFS_LOG", "loud", 1);
  const auto result = puzzlefs({"inspect", "/nowhere"});
  unsetenv("PUZZLEFS_LOG");
  EXPECT_EQ(result.code, 2);
  EXPECT_NE(result.err.find("loud"), std::string::npos);
}

// A named pipe with a reader that does not wait.
class WatchedPipe : public testing::Test {
 protected:
  WatchedPipe() {
    EXPECT_EQ(mkfifo(path_.c_str(), 0600), 0);
    reader_ = fetch::FileDescriptor(open(path_.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC));
  }

  // What was written since.
  std::string told() const {
    std::array<char, 16> letters;
    const auto count = read(reader_.get(), letters.data(), letters.size());
    return {letters.data(), static_cast<std::size_t>(std::max<ssize_t>(count, 0))};
  }

  const test::TempDir directory_;
  const std::string path_ = directory_ / "pipe";
  fetch::FileDescriptor reader_;
};

TEST_F(WatchedPipe, IsToldOfArgumentsThatAreRefused) {
  const std::vector<std::vector<std::string>> wrong = {
      {"mount", "-i", path_, "--conjure", "a", "b"},
      {"-v", "mount", "--conjure", "-i", path_, "a", "b"},
      {"mount", "a", "b", "c", "--init-pipe", path_},
      {"mount", "--init-pipe=" + path_},
      {"mount", "-fi", path_, "a"},
      {"mount", "-vvf", "-f", "-i", "other", "-i" + path_, "-p", "dir", "a", "b"}};
  for (const auto& arguments : wrong) {
    EXPECT_EQ(puzzlefs(arguments).code, 2);
    EXPECT_EQ(told(), "f") << testing::PrintToString(arguments);
  }
}

TEST_F(WatchedPipe, IsToldOfALogLevelThatDoesNotExist) {
  const test::ScopedVariable level("PUZZLEFS_LOG", "loud");
  EXPECT_EQ(puzzlefs({"mount", "-i", path_, "a", "b"}).code, 2);
  EXPECT_EQ(told(), "f");
}

TEST_F(WatchedPipe, IsOnlyForMounts) {
  EXPECT_EQ(puzzlefs({"mount", "-i", path_, "--help"}).code, 0);
  EXPECT_EQ(puzzlefs({"build", "-i", path_, "a", "b"}).code, 2);
  EXPECT_EQ(puzzlefs({"build", "mount", "-i", path_, "a", "b"}).code, 2);
  EXPECT_EQ(puzzlefs({"mount", "a", "b", "c", "--", "-i", path_}).code, 2);
  EXPECT_EQ(told(), "");
}

TEST(CommandLine, RefusesArgumentsAlsoWhereThePipeIsNone) {
  EXPECT_EQ(puzzlefs({"mount", "-i", "/nowhere/at/all", "--conjure"}).code, 2);
  EXPECT_EQ(puzzlefs({"mount", "-i"}).code, 2);
}

TEST_F(BuiltImage, PrintsTheDigestThatMountTakes) {
  const std::string prefix = "puzzlefs image manifest digest: ";
  ASSERT_TRUE(build_output_.starts_with(prefix));
  const auto inspected =
      nlohmann::json::parse(puzzlefs({"inspect", "--format", "json", path("layout") + ":v1"}).out);
  EXPECT_EQ(build_output_, prefix + inspected["manifest_verity"].get<std::string>() + "\n");
}

TEST_F(BuiltImage, TrustingTimesTakesAPackedBase) {
  const auto build = [this](std::vector<std::string> options) {
    options.insert(options.begin(), "build");
    options.insert(options.end(), {path("tree"), path("layout") + ":next"});
    return puzzlefs(options);
  };
  EXPECT_THAT(build({"--trust-mtime", "--layout", "packed"}).err, HasSubstr("--base-layer"));
  EXPECT_THAT(build({"--trust-mtime", "--base-layer", "v1"}).err, HasSubstr("--layout packed"));

  ASSERT_EQ(puzzlefs({"build", "--layout", "packed", path("tree"), path("layout") + ":p"}).code, 0);
  const auto trusting = build({"--trust-mtime", "--layout", "packed", "--base-layer", "p"});
  EXPECT_EQ(trusting.code, 0) << trusting.err;
  EXPECT_THAT(trusting.err, HasSubstr("1 file as in the base, and not read."));
}

TEST_F(BuiltImage, InspectCountsWhatIsThere) {
  const auto result = puzzlefs({"inspect", "--format=json", path("layout")});
  ASSERT_EQ(result.code, 0) << result.err;
  const auto figures = nlohmann::json::parse(result.out);
  EXPECT_EQ(figures["inodes"], 4);
  EXPECT_EQ(figures["files"], 1);
  EXPECT_EQ(figures["directories"], 2);
  EXPECT_EQ(figures["symlinks"], 1);
  EXPECT_EQ(figures["bytes"], 8);
  EXPECT_EQ(figures["chunks"], 1);
  EXPECT_EQ(figures["shared_chunks"], 0);
  EXPECT_EQ(figures["stored_bytes"], 8);
  EXPECT_NE(puzzlefs({"inspect", path("layout")}).out.find("4: 1 file, 2 directories"),
            std::string::npos);
}

TEST_F(BuiltImage, ExtractsWhatWasBuilt) {
  const auto result = puzzlefs({"extract", path("layout") + ":v1", path("copy")});
  ASSERT_EQ(result.code, 0) << result.err;
  EXPECT_EQ(read_text(directory_ / "copy/sub/file"), "contents");
  EXPECT_EQ(std::filesystem::read_symlink(directory_ / "copy/link"), "sub/file");
}

// The progress line is erased before the last line comes, and never after.
TEST_F(BuiltImage, SaysTheResultOnALineOfItsOwn) {
  const std::string erase = "\r\x1b[K";
  for (const auto& [arguments, result] :
       std::vector<std::pair<std::vector<std::string>, std::string>>{
           {{"build", path("tree"), path("layout") + ":v1"}, "Built "},
           {{"extract", path("layout") + ":v1", path("copy")}, "Extracted "}}) {
    const auto text = puzzlefs(arguments, true).err;
    ASSERT_NE(text.find(erase), std::string::npos) << text;
    EXPECT_EQ(text.rfind(erase) + erase.size(), text.find(result)) << text;
  }
}

TEST_F(BuiltImage, NamesWhatItLeavesOutWithoutSteeringTheTerminal) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root to make a device";
  const auto device = directory_ / "tree/\x1b]0;title\a\nline";
  ASSERT_EQ(mknod(device.c_str(), S_IFCHR | 0666, makedev(1, 3)), 0);
  ASSERT_EQ(puzzlefs({"build", path("tree"), path("layout") + ":v1"}).code, 0);
  std::filesystem::permissions(directory_.path(), std::filesystem::perms(0755));
  std::filesystem::create_directory(directory_ / "copy");
  ASSERT_EQ(chown(path("copy").c_str(), 65534, 65534), 0);
  ASSERT_EQ(seteuid(65534), 0);
  const auto result = puzzlefs({"extract", path("layout") + ":v1", path("copy")});
  ASSERT_EQ(seteuid(0), 0);
  EXPECT_EQ(result.code, 0);
  EXPECT_NE(result.err.find("1 device (" + path("copy") + "/?]0;title??line)"), std::string::npos)
      << result.err;
}

TEST_F(BuiltImage, ReportsAsJson) {
  const auto result = puzzlefs({"build", "--format", "json", "-c", path("tree"), path("layout")});
  ASSERT_EQ(result.code, 0) << result.err;
  const auto figures = nlohmann::json::parse(result.out);
  EXPECT_EQ(figures["name"], "oci:" + path("layout") + ":latest");
  EXPECT_EQ(figures["new_blobs"], 0);
  EXPECT_EQ(figures["chunks"], 1);
}

TEST_F(BuiltImage, CopiesToANewLayout) {
  const auto result = puzzlefs({"copy", "--format", "json", "--digestfile", path("digest"),
                                path("layout") + ":v1", "oci:" + path("copy")});
  ASSERT_EQ(result.code, 0) << result.err;
  const auto figures = nlohmann::json::parse(result.out);
  EXPECT_EQ(figures["name"], "oci:" + path("copy") + ":v1");
  EXPECT_EQ(figures["new_blobs"], 3);
  EXPECT_EQ(figures["mounted_blobs"], 0);
  EXPECT_EQ(figures["dry_run"], false);
  EXPECT_EQ(read_text(path("digest")), figures["digest"].get<std::string>());
  EXPECT_EQ(puzzlefs({"extract", path("copy"), path("out")}).code, 0);
  EXPECT_EQ(read_text(directory_ / "out/sub/file"), "contents");
}

TEST_F(BuiltImage, ADryRunLeavesNothing) {
  const auto result = puzzlefs(
      {"copy", "--dry-run", "--digestfile", path("digest"), path("layout") + ":v1", path("copy")});
  ASSERT_EQ(result.code, 0) << result.err;
  EXPECT_TRUE(result.out.starts_with("Would copy oci:" + path("copy") + ":v1@sha256:"))
      << result.out;
  EXPECT_NE(result.out.find(": 3 new blobs ("), std::string::npos);
  EXPECT_FALSE(std::filesystem::exists(path("copy")));
  EXPECT_FALSE(std::filesystem::exists(path("digest")));
}

TEST_F(BuiltImage, WritesTheDigestOnlyOnSuccess) {
  const auto digest = path("digest");
  EXPECT_EQ(puzzlefs({"copy", "--digestfile", digest, path("layout") + ":none", path("copy")}).code,
            1);
  EXPECT_FALSE(std::filesystem::exists(digest));
  const auto nowhere = path("none") + "/digest";
  const auto result = puzzlefs({"build", "--digestfile", nowhere, path("tree"), path("copy")});
  EXPECT_EQ(result.code, 1);
  EXPECT_NE(result.err.find("there is no directory " + path("none")), std::string::npos);
  EXPECT_FALSE(std::filesystem::exists(path("copy")));
  const auto directory =
      puzzlefs({"build", "--digestfile", path("tree"), path("tree"), path("copy")});
  EXPECT_EQ(directory.code, 1);
  EXPECT_NE(directory.err.find(path("tree") + ": it is a directory"), std::string::npos);
  EXPECT_FALSE(std::filesystem::exists(path("copy")));
  // A link goes on to be one, and the file behind it has the digest.
  std::ofstream(path("behind")) << "old";
  std::filesystem::create_symlink("behind", digest);
  EXPECT_EQ(puzzlefs({"build", "--digestfile", digest, path("tree"), path("copy")}).code, 0);
  EXPECT_TRUE(std::filesystem::is_symlink(digest));
  EXPECT_TRUE(read_text(path("behind")).starts_with("sha256:"));
}

TEST_F(BuiltImage, JsonTakesNamesThatAreNotUtf8) {
  const auto odd = path("odd\xff");
  for (const auto& arguments :
       std::vector<std::vector<std::string>>{{"build", path("tree"), odd + ":v1"},
                                             {"inspect", odd + ":v1"},
                                             {"copy", odd + ":v1", path("copy\xff")}}) {
    auto with_format = arguments;
    with_format.emplace_back("--format=json");
    const auto result = puzzlefs(with_format);
    ASSERT_EQ(result.code, 0) << result.err;
    EXPECT_NE(nlohmann::json::parse(result.out)["name"].get<std::string>().find("\xef\xbf\xbd"),
              std::string::npos)
        << result.out;
  }
}

TEST_F(BuiltImage, ShowsPlainProgress) {
  const auto result =
      puzzlefs({"copy", "--progress", "plain", path("layout") + ":v1", path("copy")});
  ASSERT_EQ(result.code, 0) << result.err;
  EXPECT_NE(result.err.find("3 of 3 blobs"), std::string::npos) << result.err;
  EXPECT_EQ(
      puzzlefs({"copy", "--progress", "none", path("layout") + ":v1", path("copy")}, true).err, "");
}

TEST_F(BuiltImage, APlatformIsOfAnIndexOnly) {
  const auto source = path("layout") + ":v1";
  EXPECT_EQ(puzzlefs({"inspect", "--platform", "linux/s390x", source}).code, 0);
  EXPECT_EQ(puzzlefs({"digest", "--platform", "linux/s390x", source}).out,
            puzzlefs({"digest", source}).out);
  EXPECT_EQ(puzzlefs({"copy", "--platform", "s390x", source, path("copy")}).code, 2);
  EXPECT_EQ(puzzlefs({"inspect", "--platform", "all", source}).code, 2);
}

TEST_F(BuiltImage, EnablesFsVerityOnlyOnTheImageThatIsMeant) {
  const auto layout = path("layout") + ":v1";
  const auto malformed = puzzlefs({"enable-fs-verity", layout, "abc"});
  EXPECT_EQ(malformed.code, 2);
  EXPECT_NE(malformed.err.find("64 hexadecimal digits"), std::string::npos);
  const auto wrong = puzzlefs({"enable-fs-verity", layout, std::string(64, '0')});
  EXPECT_EQ(wrong.code, 1);
  EXPECT_NE(wrong.err.find("Nothing was changed"), std::string::npos);
}

TEST_F(BuiltImage, MountRefusesAnotherImageThanTheOneThatIsMeant) {
  std::filesystem::create_directory(directory_ / "mnt");
  const auto mount = [&](std::vector<std::string> options) {
    options.insert(options.begin(), {"mount", "--foreground"});
    options.insert(options.end(), {path("layout"), path("mnt")});
    return puzzlefs(options);
  };
  const auto wrong = mount({"--digest", std::string(64, '0')});
  EXPECT_EQ(wrong.code, 1);
  EXPECT_NE(wrong.err.find("another image"), std::string::npos);
  // As from a shell variable that is not set.
  EXPECT_EQ(mount({"--digest", ""}).code, 2);
  const auto pointless = mount({"--require-fs-verity"});
  EXPECT_EQ(pointless.code, 2);
  EXPECT_NE(pointless.err.find("--digest"), std::string::npos);
}

TEST_F(BuiltImage, NamesTheTagsThereAre) {
  const auto result = puzzlefs({"extract", path("layout") + ":v2", path("copy")});
  EXPECT_EQ(result.code, 1);
  EXPECT_NE(result.err.find("v1"), std::string::npos);
}

}  // namespace
}  // namespace puzzlefs::tools
