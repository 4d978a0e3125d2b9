// Images converted between the layouts, and ordered by what a start needs.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <algorithm>
#include <filesystem>
#include <string>

#include "../support/temp_dir.h"
#include "build/build_image.h"
#include "build/convert_image.h"
#include "build/extract.h"
#include "fetch/head_start.h"
#include "format/error.h"
#include "packed.h"
#include "trees.h"

namespace puzzlefs::build {
namespace {

namespace fs = std::filesystem;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::IsSupersetOf;
using testing::SizeIs;

constexpr std::int64_t kTime = 1'600'000'000'123'456'789;

class Convert : public testing::Test {
 protected:
  Convert() {
    fs::create_directories(root_ / "dir/sub");
    test::write_file(root_ / "dir/large", test::noise(1'000'000, "large"));
    test::write_file(root_ / "dir/sub/other", test::noise(400'000, "other"));
    test::write_file(root_ / "empty", "");
    test::write_file(root_ / "text", std::string(300'000, 'x'));
    fs::create_symlink("dir/large", root_ / "link");
    fs::create_hard_link(root_ / "text", root_ / "dir/text");
    const timespec times[2]{{kTime / 1'000'000'000, kTime % 1'000'000'000},
                            {kTime / 1'000'000'000, kTime % 1'000'000'000}};
    ::utimensat(AT_FDCWD, (root_ / "text").c_str(), times, 0);
  }

  void build(const std::string& tag, BuildOptions options = {}) const {
    build_image(root_, layout_, tag, options);
  }

  ConvertResult convert(const std::string& from, const std::string& to,
                        const ConvertOptions& options) {
    const auto image = test::open_image(runtime_, layout_, from);
    return convert_image(*image, layout_, to, options);
  }
  ConvertResult to_packed(const std::string& from, const std::string& to,
                          std::vector<format::Digest> hot = {}) {
    return convert(from, to, {.hot = std::move(hot)});
  }
  ConvertResult to_chunked(const std::string& from, const std::string& to, bool compress = false) {
    return convert(from, to, {.layout = ImageLayout::kChunked, .compress = compress});
  }

  std::map<std::string, std::string> tree(const std::string& tag) {
    const auto target = scratch_ / ("extracted-" + tag);
    const auto image = test::open_image(runtime_, layout_, tag);
    extract_image(*image, target, {});
    return test::describe_tree(target);
  }

  std::string failure(const std::string& from, const ConvertOptions& options) {
    try {
      convert(from, "failed", options);
    } catch (const CorruptError& error) {
      return error.what();
    }
    return "no failure";
  }

  const test::TempDir scratch_;
  const fs::path root_ = scratch_ / "root";
  const fetch::Layout layout_ = fetch::Layout::create(scratch_ / "layout");
  fetch::Runtime runtime_{2};
};

TEST_F(Convert, KeepsTreeAndChunksToPacksAndBack) {
  build("chunked");
  const auto result = to_packed("chunked", "packed");
  to_chunked("packed", "back");

  test::PackedImage packed(layout_, "packed");
  packed.expect_sound();
  EXPECT_EQ(result.chunks, packed.chunks().size());
  EXPECT_EQ(result.inodes, 8U);
  EXPECT_EQ(packed.content("dir/sub/other"), test::noise(400'000, "other"));
  const auto original = test::describe_tree(root_);
  EXPECT_EQ(tree("packed"), original);
  EXPECT_EQ(tree("back"), original);

  const auto before = test::layer_digests(layout_, "chunked");
  const auto after = test::layer_digests(layout_, "back");
  EXPECT_THAT(after, IsSupersetOf(before.begin() + 1, before.end()));
}

TEST_F(Convert, KeepsTimesAndLinkCountsAndFillsThemIn) {
  build("chunked", {.timestamps = TimestampRule{Timestamps::kKeep}});
  build("bare");
  to_packed("chunked", "packed");
  to_packed("bare", "filled");
  to_chunked("packed", "back");

  for (const char* tag : {"packed", "back"}) {
    const auto image = test::open_image(runtime_, layout_, tag);
    const auto& metadata = image->metadata();
    std::int64_t latest = 0;
    for (std::uint32_t i = 0; i < metadata.inode_count(0); ++i)
      latest = std::max(latest, metadata.inode(0, i).mtime() == kTime ? kTime : latest);
    EXPECT_EQ(latest, kTime) << tag;
  }
  const test::PackedImage filled(layout_, "filled");
  EXPECT_EQ(filled.at("text").link_count(), 2U);
  EXPECT_EQ(filled.at("").link_count(), 3U);
  EXPECT_EQ(filled.at("dir").link_count(), 3U);
  EXPECT_EQ(filled.at("empty").link_count(), 1U);
  EXPECT_EQ(filled.at("text").mtime(), 0) << "a time that the image did not have";
}

TEST_F(Convert, GivesTheSameImageWhateverTheThreads) {
  build("chunked");
  const auto one = convert("chunked", "one", {.threads = 1, .pack_size = 300'000});
  const auto four = convert("chunked", "four", {.threads = 4, .pack_size = 300'000});
  EXPECT_EQ(one.manifest.digest, four.manifest.digest);
  EXPECT_EQ(four.new_blobs, 0U);
  EXPECT_THAT(test::PackedImage(layout_, "one").packs(), SizeIs(testing::Gt(2)));
}

TEST_F(Convert, ReadsAndWritesCompressedChunks) {
  build("compressed", {.compress = true});
  to_packed("compressed", "packed");
  to_chunked("packed", "again", true);
  const auto original = test::describe_tree(root_);
  EXPECT_EQ(tree("packed"), original);
  EXPECT_EQ(tree("again"), original);
  const auto before = test::layer_digests(layout_, "compressed");
  EXPECT_THAT(test::layer_digests(layout_, "again"),
              IsSupersetOf(before.begin() + 1, before.end()));
}

TEST_F(Convert, MakesOneLayerOfADelta) {
  build("base");
  fs::remove_all(root_ / "dir/sub");
  test::write_file(root_ / "new", "new");
  build("delta", {.base_tag = "base"});
  to_packed("delta", "packed");
  to_chunked("packed", "back");

  const auto original = test::describe_tree(root_);
  EXPECT_EQ(tree("packed"), original);
  EXPECT_EQ(tree("back"), original);
  const test::PackedImage packed(layout_, "packed");
  EXPECT_EQ(packed.metadata().layer_count(), 1U);
  EXPECT_EQ(packed.at("dir").link_count(), 2U) << "what is deleted is counted";
}

TEST_F(Convert, PutsWhatIsHotFirst) {
  build("packed", {.layout = ImageLayout::kPacked});
  const auto chunks = test::PackedImage(layout_, "packed").chunks();
  ASSERT_GT(chunks.size(), 4U);
  const auto last = chunks.back().digest;
  const auto third = chunks[2].digest;
  const auto unknown = format::sha256(as_bytes("unknown"));
  const auto result = to_packed("packed", "hot", {last, unknown, third, last});
  EXPECT_EQ(result.hot_chunks, 2U);
  EXPECT_EQ(result.unknown_chunks, 1U);

  test::PackedImage hot(layout_, "hot");
  hot.expect_sound();
  const auto ordered = hot.chunks();
  EXPECT_EQ(ordered[0].digest, last);
  EXPECT_EQ(ordered[1].digest, third);
  EXPECT_EQ(ordered.size(), chunks.size());
  const auto packs = hot.packs();
  ASSERT_EQ(packs.size(), 2U);
  EXPECT_EQ(packs[0].hot_size, packs[0].size);
  EXPECT_EQ(packs[0].size, ordered[0].stored_size + ordered[1].stored_size);
  EXPECT_EQ(packs[1].hot_size, 0U);
  const auto range = fetch::hot_range_of(hot.manifest());
  ASSERT_TRUE(range);
  EXPECT_EQ(range->pack.digest, packs[0].digest);
  EXPECT_EQ(range->size, packs[0].hot_size);
  EXPECT_EQ(tree("hot"), test::describe_tree(root_));
}

TEST_F(Convert, TakesBlobsOfAChunkedImageAsHot) {
  build("compressed", {.compress = true});
  const auto blob = test::layer_digests(layout_, "compressed").back();
  EXPECT_EQ(to_packed("compressed", "hot", {format::Digest::parse_hex(blob)}).hot_chunks, 1U);
  EXPECT_GT(test::PackedImage(layout_, "hot").packs().at(0).hot_size, 0U);
}

TEST_F(Convert, SharesThePacksOfABase) {
  build("first");
  to_packed("first", "base");
  test::write_file(root_ / "zzz", test::noise(5'000, "new"));
  build("second");
  BaseImage base(layout_, "base");
  const auto result = convert(
      "second", "next",
      {.base = PackBase{base.metadata(), [&](const auto& c) { return base.read_stored(c); }}});
  EXPECT_EQ(result.kept_packs, 1U);
  EXPECT_EQ(result.new_blobs, 1U);
  EXPECT_LT(result.new_bytes, 400'000U);
  EXPECT_EQ(test::PackedImage(layout_, "next").packs()[0],
            test::PackedImage(layout_, "base").packs()[0]);
  EXPECT_EQ(tree("next"), test::describe_tree(root_));
}

format::InodeRecord root_with(const std::vector<format::DirEntryRecord>& entries) {
  format::InodeRecord root;
  root.ino = format::kRootInode;
  root.type = format::FileType::kDirectory;
  root.permissions = 0755;
  root.entries = entries;
  return root;
}

format::InodeRecord file_of(std::uint64_t number, const std::vector<format::ChunkRef>& pieces) {
  format::InodeRecord file;
  file.ino = format::InodeNumber{number};
  file.permissions = 0644;
  file.chunks = pieces;
  return file;
}

TEST_F(Convert, RefusesAPieceOutsideItsChunk) {
  const std::string chunk(1000, 'c');
  const auto digest = format::sha256(as_bytes(chunk));
  // The first piece is right, so that the chunk can be read.
  test::write_image(layout_,
                    {{root_with({{format::InodeNumber{2}, "a"}}),
                      file_of(2, {{.blob = digest, .offset = 0, .size = 10},
                                  {.blob = digest, .offset = 995, .size = 10}})}},
                    {chunk});
  const std::string message = "inode 2: a piece lies outside its chunk";
  EXPECT_THAT(failure("hostile", {}), HasSubstr(message));
  EXPECT_THAT(failure("hostile", {.layout = ImageLayout::kChunked}), HasSubstr(message));
}

TEST_F(Convert, SortsNamesAndDropsEmptyPieces) {
  const std::string chunk(1000, 'c');
  const auto digest = format::sha256(as_bytes(chunk));
  const auto missing = format::sha256(as_bytes("missing"));
  test::write_image(layout_,
                    {{root_with({{format::InodeNumber{3}, "b"}, {format::InodeNumber{2}, "a"}}),
                      file_of(2, {{.blob = digest, .offset = 1, .size = 999},
                                  {.blob = missing, .offset = 0, .size = 0}}),
                      file_of(3, {})}},
                    {chunk});
  to_packed("hostile", "packed");
  test::PackedImage packed(layout_, "packed");
  EXPECT_EQ(packed.metadata().get(format::kRootInode).entry(0).name, "a");
  EXPECT_EQ(packed.content("a"), chunk.substr(1));
  EXPECT_EQ(packed.content("b"), "");
}

TEST_F(Convert, EndsForADirectoryInItself) {
  test::write_image(layout_, {{root_with({{format::kRootInode, "self"}})}});
  EXPECT_EQ(to_packed("hostile", "packed").inodes, 1U);
}

TEST_F(Convert, LeavesNoTagAndNoTemporaryFilesWhenAChunkIsMissing) {
  build("chunked");
  const auto blob = test::layer_digests(layout_, "chunked").back();
  fs::remove(layout_.blob_path(format::Digest::parse_hex(blob)));
  EXPECT_THROW(to_packed("chunked", "failed"), Error);
  EXPECT_THAT(layout_.tags(), ElementsAre("chunked"));
  EXPECT_THAT(test::temporary_files(layout_), IsEmpty());
}

}  // namespace
}  // namespace puzzlefs::build
