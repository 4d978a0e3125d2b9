// From a tree to an image in a layout.
#include "build/build_image.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <set>
#include <string>

#include "../support/temp_dir.h"
#include "format/error.h"
#include "format/oci.h"
#include "format/verity.h"
#include "trees.h"

namespace puzzlefs::build {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;
using testing::SizeIs;

class BuildImage : public testing::Test {
 protected:
  BuildImage() { fs::create_directory(root_); }

  BuildResult build(const std::string& tag = "tag", const BuildOptions& options = {}) const {
    return build_image(root_, layout_, tag, options);
  }

  // The message of the error that a build ends with.
  std::string failure(const BuildOptions& options = {}) const {
    try {
      build("tag", options);
    } catch (const Error& error) {
      return error.what();
    }
    return "no failure";
  }

  const test::TempDir scratch_;
  const fs::path root_ = scratch_ / "root";
  const fetch::Layout layout_ = fetch::Layout::create(scratch_ / "layout");
};

TEST_F(BuildImage, GivesTheKnownAnswerForTheSmallTree) {
  if (!test::is_root()) GTEST_SKIP() << "needs root to give files away";
  fs::create_directory(root_ / "algorithms");
  test::write_file(root_ / "algorithms/binary-search.txt", "");
  test::write_file(root_ / "lorem_ipsum.txt", "Lorem ipsum dolor sit amet\n");
  fs::permissions(root_, fs::perms(0755));
  fs::permissions(root_ / "algorithms", fs::perms(0775));
  fs::permissions(root_ / "algorithms/binary-search.txt", fs::perms(0664));
  fs::permissions(root_ / "lorem_ipsum.txt", fs::perms(0664));
  for (const char* name : {"", "algorithms", "algorithms/binary-search.txt", "lorem_ipsum.txt"}) {
    ASSERT_EQ(::chown((root_ / name).c_str(), 1000, 1000), 0);
  }

  const BuildResult result = build();

  EXPECT_THAT(
      test::layer_digests(layout_, "tag"),
      testing::ElementsAre("9e2edc6917b65606b1112ac8663665dfd2d945cfea960ca595accf790922b910",
                           "b7f1ee9373416a49835747455ec4d287bcccc5a4bf8c38156483d46b35ce4dbd"));
  EXPECT_EQ(result.inodes, 4U);
  EXPECT_EQ(result.content_bytes, 27U);
  EXPECT_EQ(result.chunks, 1U);
}

TEST_F(BuildImage, WritesTheGoldenImageByteForByte) {
  if (!test::is_root()) GTEST_SKIP() << "needs root to make devices";
  test::make_kinds(root_);
  const BuildResult result = build("kinds");
  EXPECT_EQ(result.manifest.digest.hex(),
            "0b913e3b7b08d34391fd61b80a99d1804d54fd6bfd41ee3e75e8647995c51362");
  EXPECT_EQ(layout_.resolve("kinds").digest, result.manifest.digest);
}

TEST_F(BuildImage, WritesTheGoldenImagesCompressedChunks) {
  if (!test::is_root()) GTEST_SKIP() << "needs root to make devices";
  ASSERT_EQ(std::system(("tar -C '" + scratch_.path().string() +
                         "' --zstd -xf '" PUZZLEFS_FIXTURES "/kinds.oci.tar.zst'")
                            .c_str()),
            0);
  const auto golden = fetch::Layout::open(scratch_ / "oci");
  test::make_kinds(root_);
  build("kinds-compressed", {.compress = true});

  // The metadata differs: the golden one has wrong fs-verity digests (doc/format.md, "fs-verity").
  auto ours = test::layer_digests(layout_, "kinds-compressed");
  auto theirs = test::layer_digests(golden, "kinds-compressed");
  ours.erase(ours.begin());
  theirs.erase(theirs.begin());
  EXPECT_EQ(ours, theirs);
}

TEST_F(BuildImage, TakesHolesForTheZerosThatTheyAre) {
  std::string content(5'000'000, '\0');
  content.replace(1'500'001, 3, "abc");
  content.replace(3'000'000, 6, "middle");
  const fs::path file = root_ / "file";
  for (const bool ends_in_hole : {true, false}) {
    if (!ends_in_hole) content.back() = 'z';
    test::write_file(file, content);
    build("full");
    fs::remove(file);
    test::write_file(file, "");
    fs::resize_file(file, content.size());
    std::fstream holes(file, std::ios::in | std::ios::out | std::ios::binary);
    for (std::size_t at = 0; (at = content.find_first_not_of('\0', at)) < content.size(); ++at)
      holes.seekp(static_cast<std::streamoff>(at)).put(content[at]);
    holes.close();
    struct stat status {};
    ASSERT_EQ(::stat(file.c_str(), &status), 0);
    EXPECT_LT(status.st_blocks * 512, 100'000) << "the file system knows no holes";
    build("sparse");
    EXPECT_EQ(layout_.resolve("sparse").digest, layout_.resolve("full").digest);
  }
}

TEST_F(BuildImage, GivesTheSameImageWhateverTheNumberOfThreads) {
  for (int i = 0; i < 40; ++i) {
    test::write_file(root_ / std::to_string(i), test::noise(100'000, std::to_string(i % 30)));
  }
  for (const bool compress : {false, true}) {
    std::set<format::Digest> manifests;
    for (const unsigned threads : {1U, 2U, 7U}) {
      const auto layout = fetch::Layout::create(scratch_ / ("layout" + std::to_string(threads)));
      manifests.insert(build_image(root_, layout, "tag", {.compress = compress, .threads = threads})
                           .manifest.digest);
    }
    EXPECT_THAT(manifests, SizeIs(1)) << compress;
  }
}

TEST_F(BuildImage, StoresAChunkThatComesAgainOnceAndListsItEachTime) {
  test::write_file(root_ / "zeros", std::string(1 << 20, '\0'));
  const BuildResult result = build();
  EXPECT_EQ(result.chunks, 4U);
  EXPECT_EQ(result.distinct_chunks, 1U);
  EXPECT_EQ(result.new_blobs, 1U);
  EXPECT_EQ(result.new_bytes, 256U << 10);
  EXPECT_THAT(test::layer_digests(layout_, "tag"), SizeIs(5));
}

TEST_F(BuildImage, WritesOnlyChunksThatTheLayoutLacks) {
  test::write_file(root_ / "file", test::noise(2'000'000, "file"));
  const BuildResult first = build("first");
  EXPECT_EQ(build("again").new_blobs, 0U);

  test::write_file(root_ / "file", "changed" + test::noise(2'000'000, "file"));
  const BuildResult changed = build("changed");
  EXPECT_EQ(changed.chunks, first.chunks);
  EXPECT_EQ(changed.new_blobs, 1U);
}

TEST_F(BuildImage, KeepsTheBlobOfTheEmptyConfig) {
  build();
  EXPECT_EQ(test::read_file(layout_.blob_path(format::empty_config().digest)), "{}");
}

TEST_F(BuildImage, MeasuresTheManifestAsLinuxWould) {
  const BuildResult result = build();
  const auto document = test::read_file(layout_.blob_path(result.manifest.digest));
  EXPECT_EQ(result.manifest_verity, format::verity_digest(as_bytes(document)));
  EXPECT_EQ(result.manifest.size, document.size());
}

TEST_F(BuildImage, ReportsTheBytesReadSoFar) {
  test::write_file(root_ / "a", test::noise(10'000'000, "a"));
  std::vector<std::uint64_t> reports;
  build("tag", {.on_progress = [&](std::uint64_t bytes) { reports.push_back(bytes); }});
  ASSERT_THAT(reports, SizeIs(testing::Gt(1U)));
  EXPECT_TRUE(std::is_sorted(reports.begin(), reports.end()));
  EXPECT_EQ(reports.back(), 10'000'000U);
}

// A file of several reads; `change` happens after the first.
class ChangingTree : public BuildImage {
 protected:
  ChangingTree() {
    test::write_file(file_, test::noise(10'000'000, "file"));
    test::write_file(root_ / "next", "next");
  }

  std::string failure_after(const std::function<void()>& change) const {
    bool changed = false;
    return failure({.on_progress = [&](std::uint64_t) {
      if (!std::exchange(changed, true)) change();
    }});
  }

  const fs::path file_ = root_ / "file";
};

TEST_F(ChangingTree, NamesTheFileThatShrinks) {
  EXPECT_THAT(failure_after([&] { fs::resize_file(file_, 9'000'000); }),
              HasSubstr(file_.string() + " changed while it was read"));
}

TEST_F(ChangingTree, NamesTheFileThatGrows) {
  EXPECT_THAT(failure_after([&] { fs::resize_file(file_, 11'000'000); }),
              HasSubstr(file_.string() + " changed while it was read"));
}

TEST_F(ChangingTree, NamesTheFileThatVanishes) {
  EXPECT_THAT(failure_after([&] { fs::remove(root_ / "next"); }),
              HasSubstr((root_ / "next").string()));
}

TEST_F(ChangingTree, LeavesTheTagAsItWas) {
  const auto before = build("tag").manifest.digest;
  failure_after([&] { fs::remove(root_ / "next"); });
  EXPECT_EQ(layout_.resolve("tag").digest, before);
}

TEST_F(BuildImage, FailsWithoutHangingWhenChunksCannotBeWritten) {
  // More than the buffers hold, so that the reader waits for those who fail to write.
  for (int i = 0; i < 8; ++i) {
    test::write_file(root_ / std::to_string(i), test::noise(8'000'000, std::to_string(i)));
  }
  fs::remove_all(layout_.path() / "blobs");
  EXPECT_THAT(failure({.threads = 2}), HasSubstr("blobs"));
}

}  // namespace
}  // namespace puzzlefs::build
