// The cache as its subcommands show and change it, and reading without a network.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <filesystem>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <random>
#include <sstream>
#include <string>
#include <vector>

#include "../support/scripted_server.h"
#include "../support/temp_dir.h"
#include "format/verity.h"
#include "puzzlefs/cache_flags.h"
#include "puzzlefs/command_line.h"

namespace puzzlefs::tools {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using ::testing::HasSubstr;
using ::testing::StartsWith;

struct Result {
  int code = 0;
  std::string out;
  std::string err;

  json document() const { return json::parse(out); }
};

Result puzzlefs(const std::vector<std::string>& arguments) {
  std::vector<const char*> argv = {"puzzlefs"};
  for (const auto& argument : arguments) argv.push_back(argument.c_str());
  std::ostringstream out;
  std::ostringstream err;
  Terminal terminal(out, err);
  const int code = run(static_cast<int>(argv.size()), argv.data(), terminal);
  return {code, out.str(), err.str()};
}

std::string read_text(const fs::path& path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), {}};
}

/// A repository that serves the blobs of a layout, and as "repo:tag" the layout's tag of the
/// moment.
class CacheCommand : public testing::Test {
 protected:
  CacheCommand() {
    std::ofstream(path("auth.json")) << "{}";
    write_file("a", 'a', 700'000);
    write_file("b", 'b', 700'000);
    build();
  }

  void write_file(const std::string& name, char seed, std::size_t size) {
    fs::create_directories(path("tree"));
    std::minstd_rand random(static_cast<unsigned>(seed));
    std::string content(size, '\0');
    for (auto& c : content) c = static_cast<char>(random());
    std::ofstream(path("tree/" + name)) << content;
  }
  void build() {
    const auto built = puzzlefs({"build", path("tree"), path("layout") + ":tag"});
    ASSERT_EQ(built.code, 0) << built.err;
  }
  std::string digest() const {
    return puzzlefs({"digest", path("layout") + ":tag"}).out.substr(0, 71);
  }

  /// Runs a command that may use the registry, with the test's own cache.
  Result with_registry(std::vector<std::string> arguments) const {
    const auto verbs = arguments[0] == "cache" ? 2 : 1;
    arguments.insert(arguments.begin() + verbs,
                     {"--cache-dir", cache(), "--authfile", path("auth.json")});
    return puzzlefs(arguments);
  }
  Result cache_command(std::vector<std::string> arguments) const {
    arguments.insert(arguments.begin(), {"cache"});
    arguments.insert(arguments.end(), {"--cache-dir", cache()});
    return puzzlefs(arguments);
  }
  json images() const { return cache_command({"ls", "--format", "json"}).document().at("images"); }
  std::uint64_t blobs_held() const {
    return cache_command({"info", "--format", "json"}).document().at("blobs");
  }
  std::size_t blobs_served() const { return server_.count("GET", "/blobs/"); }
  /// The files of the cache's blobs, the largest first: the chunks come before all else.
  std::vector<fs::path> blob_files() const {
    std::vector<fs::path> files;
    for (const auto& entry : fs::recursive_directory_iterator(path("cache/blobs"))) {
      if (entry.is_regular_file()) files.push_back(entry.path());
    }
    std::sort(files.begin(), files.end(), [](const fs::path& a, const fs::path& b) {
      return fs::file_size(a) > fs::file_size(b);
    });
    return files;
  }

  std::string path(const std::string& name) const { return (directory_ / name).string(); }
  std::string cache() const { return path("cache"); }
  std::string name() const { return server_.host() + "/repo:tag"; }

  test::TempDir directory_;
  std::atomic<bool> lacks_chunks_ = false;
  mutable test::ScriptedServer server_{
      [this](const test::ServedRequest& request) { return answer(request); }};

 private:
  test::Reply answer(const test::ServedRequest& request) const {
    test::Reply reply;
    if (request.target == "/v2/") return reply;
    auto reference = request.target.substr(request.target.rfind('/') + 1);
    const bool is_manifest = request.target.find("/manifests/") != std::string::npos;
    if (reference == "tag") reference = current_digest();
    const auto file = path("layout/blobs/sha256/") + reference.substr(7);
    std::error_code missing;
    const auto size = fs::file_size(file, missing);
    if (missing || (lacks_chunks_ && !is_manifest && size > 10'000)) {
      reply.status = 404;
      return reply;
    }
    reply.headers = {{"Content-Type", is_manifest ? "application/vnd.oci.image.manifest.v1+json"
                                                  : "application/octet-stream"}};
    reply.body = read_text(file);
    return reply;
  }
  std::string current_digest() const {
    return json::parse(read_text(path("layout/index.json")))["manifests"][0]["digest"];
  }
};

TEST(CacheSize, IsANumberWithALetter) {
  EXPECT_EQ(parse_size("0"), 0U);
  EXPECT_EQ(parse_size("1000"), 1000U);
  EXPECT_EQ(parse_size("3K"), 3U << 10);
  EXPECT_EQ(parse_size("3m"), 3U << 20);
  EXPECT_EQ(parse_size("10G"), std::uint64_t{10} << 30);
  EXPECT_EQ(parse_size("16777215T"), std::uint64_t{16777215} << 40);
  for (const auto* wrong : {"", "G", "-1", "+1", " 1", "1 G", "1GB", "1E", "1.5G", "16777216T",
                            "99999999999999999999", "10%"}) {
    EXPECT_EQ(parse_size(wrong), std::nullopt) << wrong;
  }
}

TEST_F(CacheCommand, WrongUsageIsTwoAndSaysWhatIsPossible) {
  for (const auto* wrong : {"", "lots", "0", "1000", "0%", "101%", "10%%", "%"}) {
    const auto result = with_registry({"inspect", "--cache-size", wrong, name()});
    EXPECT_EQ(result.code, 2) << wrong;
    EXPECT_THAT(result.err, HasSubstr("--cache-size=10G"));
  }
  EXPECT_THAT(cache_command({"prune", "--keep", "5%"}).err, HasSubstr("--keep=10G"));
  EXPECT_EQ(cache_command({"prune", "--keep", "5%"}).code, 2);
  EXPECT_EQ(puzzlefs({"cache"}).code, 2);
  EXPECT_EQ(puzzlefs({"cache", "conjure"}).code, 2);
  EXPECT_EQ(cache_command({"pin", path("layout")}).code, 2);
  EXPECT_EQ(server_.connections(), 0U);
}

TEST_F(CacheCommand, InfoTellsTheLimitAndWhatIsThere) {
  ASSERT_EQ(with_registry({"inspect", name()}).code, 0);
  const auto info = cache_command({"info", "--format", "json", "--cache-size", "3M"}).document();
  EXPECT_EQ(info["directory"], cache());
  EXPECT_EQ(info["limit"], 3 << 20);
  EXPECT_EQ(info["blobs"], 2);  // manifest and metadata
  EXPECT_EQ(info["bytes"], 8192);
  EXPECT_EQ(info["quarantined"], 0);
  EXPECT_EQ(info["pins"], 0);
  EXPECT_GT(info["free"], 0);
  const auto tenth = cache_command({"info", "--format", "json", "--cache-size", "10%"}).document();
  const auto fifth = cache_command({"info", "--format", "json", "--cache-size", "20%"}).document();
  EXPECT_EQ(fifth["limit"], 2 * tenth["limit"].get<std::uint64_t>());
  EXPECT_THAT(cache_command({"info", "--cache-size", "3M"}).out, HasSubstr("3.0 MiB"));
}

TEST_F(CacheCommand, APinnedImageIsReadOffline) {
  const auto pinned = with_registry({"cache", "pin", name()});
  ASSERT_EQ(pinned.code, 0) << pinned.err;
  EXPECT_THAT(pinned.out, StartsWith("Pinned " + name() + "@" + digest()));
  const auto connections = server_.connections();
  ASSERT_EQ(cache_command({"prune"}).code, 0);
  const auto extracted = with_registry({"extract", "--offline", name(), path("out")});
  ASSERT_EQ(extracted.code, 0) << extracted.err;
  EXPECT_EQ(read_text(path("out/b")), read_text(path("tree/b")));
  EXPECT_EQ(with_registry({"inspect", "--offline", name()}).code, 0);
  EXPECT_EQ(server_.connections(), connections);
}

TEST_F(CacheCommand, PinFetchesOnlyWhatIsMissing) {
  ASSERT_EQ(with_registry({"extract", name(), path("out")}).code, 0);
  const auto served = blobs_served();
  fs::remove(blob_files().front());
  ASSERT_EQ(with_registry({"cache", "pin", name()}).code, 0);
  EXPECT_EQ(blobs_served(), served + 1);
  EXPECT_THAT(with_registry({"cache", "pin", name()}).out, HasSubstr(": 0 new blobs (0 B), "));
}

TEST_F(CacheCommand, PinReplacesWhatHasChangedInTheCache) {
  ASSERT_EQ(with_registry({"cache", "pin", name()}).code, 0);
  std::ofstream(blob_files().front(), std::ios::in | std::ios::binary) << "x";
  ASSERT_EQ(with_registry({"cache", "pin", name()}).code, 0);
  EXPECT_EQ(cache_command({"verify"}).code, 0);
}

TEST_F(CacheCommand, OfflineFailsForWhatIsNotThereAndConnectsToNobody) {
  const auto unknown = with_registry({"inspect", "--offline", name()});
  EXPECT_EQ(unknown.code, 1);
  EXPECT_THAT(unknown.err, HasSubstr("what " + name() + " stands for, and --offline forbids"));
  EXPECT_EQ(server_.connections(), 0U);
  ASSERT_EQ(with_registry({"inspect", name()}).code, 0);
  const auto connections = server_.connections();
  EXPECT_EQ(with_registry({"inspect", "--offline", name()}).code, 0);
  const auto result = with_registry({"extract", "--offline", name(), path("out")});
  EXPECT_EQ(result.code, 1);
  EXPECT_THAT(result.err, HasSubstr("the blob sha256:"));
  EXPECT_THAT(result.err, HasSubstr("--offline forbids"));
  EXPECT_EQ(with_registry({"cache", "pin", "--offline", name()}).code, 1);
  EXPECT_EQ(server_.connections(), connections);
}

TEST_F(CacheCommand, OfflineTakesThePinRatherThanWhatCameLater) {
  ASSERT_EQ(with_registry({"cache", "pin", name()}).code, 0);
  const auto before = digest();
  write_file("c", 'c', 10'000);
  build();
  ASSERT_NE(digest(), before);
  EXPECT_THAT(with_registry({"inspect", name()}).out, HasSubstr(digest()));
  EXPECT_THAT(with_registry({"inspect", "--offline", name()}).out, HasSubstr(before));
}

TEST_F(CacheCommand, APinThatDoesNotFitIsRefused) {
  const auto result = with_registry({"cache", "pin", "--cache-size", "1M", name()});
  EXPECT_EQ(result.code, 1);
  EXPECT_THAT(result.err, HasSubstr("does not fit into the cache " + cache()));
  EXPECT_THAT(result.err, HasSubstr("--cache-size"));
  EXPECT_EQ(images()[0]["pinned"], false);
  const auto fits = with_registry({"cache", "pin", "--cache-size", "2M", name()});
  EXPECT_EQ(fits.code, 0) << fits.err;
}

TEST_F(CacheCommand, APinCountsWhatIsPinnedAlready) {
  ASSERT_EQ(with_registry({"cache", "pin", "--cache-size", "2M", name()}).code, 0);
  write_file("a", 'x', 700'000);
  write_file("b", 'y', 700'000);
  build();
  const auto other = server_.host() + "/other:tag";
  const auto result = with_registry({"cache", "pin", "--cache-size", "2M", other});
  EXPECT_EQ(result.code, 1);
  EXPECT_THAT(result.err, HasSubstr("does not fit"));
  // In the place of the first it does.
  EXPECT_EQ(with_registry({"cache", "pin", "--cache-size", "2M", name()}).code, 0);
  EXPECT_EQ(images()[0]["digest"], digest());
}

TEST_F(CacheCommand, PinMakesRoom) {
  ASSERT_EQ(with_registry({"extract", "--cache-size", "3M", name(), path("out")}).code, 0);
  write_file("a", 'x', 700'000);
  write_file("b", 'y', 700'000);
  build();
  ASSERT_EQ(with_registry({"cache", "pin", "--cache-size", "2M", name()}).code, 0);
  EXPECT_LE(cache_command({"info", "--format", "json"}).document()["bytes"], 2 << 20);
  EXPECT_EQ(with_registry({"extract", "--offline", name(), path("new")}).code, 0);
}

TEST_F(CacheCommand, APinThatFailsIsTakenBack) {
  lacks_chunks_ = true;
  EXPECT_EQ(with_registry({"cache", "pin", name()}).code, 1);
  EXPECT_EQ(images()[0]["pinned"], false);
  lacks_chunks_ = false;
  ASSERT_EQ(with_registry({"cache", "pin", name()}).code, 0);
  const auto before = digest();
  write_file("a", 'x', 700'000);
  build();
  lacks_chunks_ = true;
  EXPECT_EQ(with_registry({"cache", "pin", name()}).code, 1);
  EXPECT_EQ(images()[0]["pinned"], true);
  EXPECT_EQ(images()[0]["digest"], before);
}

TEST_F(CacheCommand, APinIsOfTheMomentAndMovesWhenSetAnew) {
  ASSERT_EQ(with_registry({"cache", "pin", name()}).code, 0);
  const auto before = digest();
  write_file("c", 'c', 10'000);
  build();
  ASSERT_EQ(with_registry({"inspect", name()}).code, 0);
  const auto both = images();
  ASSERT_EQ(both.size(), 2U);
  EXPECT_EQ(both[0]["digest"], before);
  EXPECT_EQ(both[0]["pinned"], true);
  EXPECT_EQ(both[1]["digest"], digest());
  EXPECT_EQ(both[1]["pinned"], false);
  ASSERT_EQ(with_registry({"cache", "pin", name()}).code, 0);
  ASSERT_EQ(images().size(), 1U);
  EXPECT_EQ(images()[0]["digest"], digest());
  EXPECT_EQ(images()[0]["pinned"], true);
}

TEST_F(CacheCommand, PinsOfflineWhatIsThereWhole) {
  ASSERT_EQ(with_registry({"extract", name(), path("out")}).code, 0);
  const auto connections = server_.connections();
  EXPECT_EQ(with_registry({"cache", "pin", "--offline", name()}).code, 0);
  EXPECT_EQ(images()[0]["pinned"], true);
  EXPECT_EQ(server_.connections(), connections);
}

TEST_F(CacheCommand, WhatIsUnpinnedMayGo) {
  ASSERT_EQ(with_registry({"cache", "pin", name()}).code, 0);
  const auto all = blobs_held();
  EXPECT_THAT(cache_command({"prune"}).out, StartsWith("Removed 0 blobs: 0 B freed"));
  EXPECT_EQ(blobs_held(), all);
  const auto unpinned = cache_command({"unpin", name()});
  EXPECT_EQ(unpinned.code, 0) << unpinned.err;
  EXPECT_EQ(unpinned.out, "Unpinned " + name() + ".\n");
  const auto again = cache_command({"unpin", name()});
  EXPECT_EQ(again.code, 1);
  EXPECT_THAT(again.err, HasSubstr(name() + " is not pinned in the cache " + cache()));
  const auto pruned = cache_command({"prune", "--format", "json"}).document();
  EXPECT_EQ(pruned["removed_blobs"], all);
  EXPECT_GT(pruned["freed_bytes"], 1'400'000);
  EXPECT_EQ(pruned["blobs"], 0);
  EXPECT_EQ(pruned["bytes"], 0);
  EXPECT_EQ(with_registry({"extract", "--offline", name(), path("out")}).code, 1);
}

TEST_F(CacheCommand, PruneKeepsAsMuchAsItIsTold) {
  ASSERT_EQ(with_registry({"extract", name(), path("out")}).code, 0);
  const auto all = blobs_held();
  const auto pruned = cache_command({"prune", "--keep", "1M", "--format", "json"}).document();
  EXPECT_LE(pruned["bytes"], 1 << 20);
  EXPECT_GT(pruned["bytes"], 1 << 18);
  EXPECT_EQ(pruned["blobs"].get<std::uint64_t>() + pruned["removed_blobs"].get<std::uint64_t>(),
            all);
  EXPECT_EQ(cache_command({"prune", "--keep", "1M", "--format", "json"}).document()["freed_bytes"],
            0);
}

TEST_F(CacheCommand, ListsWhatIsThereOfEachImage) {
  EXPECT_TRUE(images().empty());
  ASSERT_EQ(with_registry({"inspect", name()}).code, 0);
  const auto image = images().at(0);
  EXPECT_EQ(image["name"], name());
  EXPECT_EQ(image["digest"], digest());
  EXPECT_EQ(image["blobs"], 1);
  EXPECT_GT(image["blobs_total"], 2);
  EXPECT_LT(image["bytes"], 4096);
  EXPECT_GT(image["bytes_total"], 1'400'000);
  EXPECT_THAT(cache_command({"ls"}).out,
              StartsWith(name() + "@" + digest() + ": 1 of " + image["blobs_total"].dump()));
  ASSERT_EQ(cache_command({"prune"}).code, 0);
  EXPECT_EQ(images().at(0)["blobs"], nullptr);
  EXPECT_EQ(cache_command({"ls"}).out, name() + "@" + digest() + ": its manifest is not there\n");
}

TEST_F(CacheCommand, VerifySetsAsideWhatHasChanged) {
  ASSERT_EQ(with_registry({"extract", name(), path("out")}).code, 0);
  const auto all = blobs_held();
  EXPECT_EQ(cache_command({"verify", "--format", "json"}).document()["good"], all);
  std::ofstream(blob_files().front(), std::ios::in | std::ios::binary) << "x";
  const auto found = cache_command({"verify", "--format", "json"});
  EXPECT_EQ(found.code, 1);
  EXPECT_EQ(found.document()["good"], all - 1);
  EXPECT_EQ(found.document()["bad"], 1);
  EXPECT_THAT(found.err, HasSubstr("1 blob in the cache " + cache() + " had changed"));
  const auto again = cache_command({"verify"});
  EXPECT_EQ(again.code, 0);
  EXPECT_THAT(again.out, HasSubstr(std::to_string(all - 1) + " good, 0 bad."));
  EXPECT_EQ(cache_command({"info", "--format", "json"}).document()["quarantined"], 1);
}

TEST_F(CacheCommand, CountsVerifiesAndPrunesWholeFiles) {
  ASSERT_EQ(with_registry({"inspect", name()}).code, 0);
  const auto blobs = blobs_held();
  const auto hex = format::verity_digest(as_bytes("content")).hex();
  const auto file = path("cache/files/" + hex.substr(0, 2) + "/" + hex);
  fs::create_directories(fs::path(file).parent_path());
  std::ofstream(file) << "content";
  EXPECT_EQ(cache_command({"info", "--format", "json"}).document()["files"], 1);
  EXPECT_THAT(cache_command({"info"}).out, HasSubstr(" and 1 file\n"));
  EXPECT_EQ(cache_command({"verify", "--format", "json"}).document()["good"], blobs + 1);
  std::ofstream(file) << "Content";
  const auto found = cache_command({"verify"});
  EXPECT_EQ(found.code, 1);
  EXPECT_THAT(found.out, HasSubstr("and 1 file ("));
  EXPECT_THAT(found.err, HasSubstr("1 file in the cache " + cache() + " had changed"));
  EXPECT_TRUE(fs::exists(path("cache/quarantine/file-" + hex)));
  std::ofstream(file) << "content";
  const auto pruned = cache_command({"prune", "--format", "json"}).document();
  EXPECT_EQ(pruned["removed_files"], 1);
  EXPECT_EQ(pruned["files"], 0);
  EXPECT_FALSE(fs::exists(file));
}

TEST_F(CacheCommand, PullPinsInPlaceOfALayout) {
  EXPECT_EQ(puzzlefs({"pull", name()}).code, 2);
  EXPECT_EQ(with_registry({"pull", "--pin", name(), path("copy")}).code, 2);
  EXPECT_EQ(with_registry({"pull", "--pin", "--dry-run", name()}).code, 2);
  EXPECT_EQ(with_registry({"pull", "--pin", "--platform", "all", name()}).code, 2);
  EXPECT_EQ(with_registry({"pull", name(), path("copy")}).code, 2);  // has --cache-dir
  EXPECT_EQ(server_.connections(), 0U);
  const auto pulled =
      with_registry({"pull", "--pin", "--format", "json", "--digestfile", path("digest"), name()});
  ASSERT_EQ(pulled.code, 0) << pulled.err;
  EXPECT_EQ(pulled.document()["name"], name());
  EXPECT_EQ(pulled.document()["digest"], digest());
  EXPECT_EQ(read_text(path("digest")), digest());
  EXPECT_EQ(images().at(0)["pinned"], true);
  EXPECT_EQ(images().at(0)["blobs"], images().at(0)["blobs_total"]);
}

}  // namespace
}  // namespace puzzlefs::tools
