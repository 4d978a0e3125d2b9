// From a tree to a packed image, and to the next one that shares its packs.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>
#include <set>
#include <string>

#include "../support/temp_dir.h"
#include "build/build_image.h"
#include "build/fastcdc.h"
#include "build/image_documents.h"
#include "format/error.h"
#include "packed.h"
#include "trees.h"

namespace puzzlefs::build {
namespace {

namespace fs = std::filesystem;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

class PackedBuild : public testing::Test {
 protected:
  PackedBuild() { fs::create_directory(root_); }

  BuildResult build(const std::string& tag = "tag", BuildOptions options = {}) const {
    options.layout = ImageLayout::kPacked;
    return build_image(root_, layout_, tag, options);
  }

  std::string failure(const BuildOptions& options) const {
    try {
      build_image(root_, layout_, "tag", options);
    } catch (const UsageError& error) {
      return error.what();
    }
    return "no failure";
  }

  const test::TempDir scratch_;
  const fs::path root_ = scratch_ / "root";
  const fetch::Layout layout_ = fetch::Layout::create(scratch_ / "layout");
};

TEST_F(PackedBuild, HoldsTheTree) {
  fs::create_directories(root_ / "dir/sub");
  test::write_file(root_ / "dir/empty", "");
  test::write_file(root_ / "dir/large", test::noise(1'000'000, "large"));
  test::write_file(root_ / "dir/sub/small", "small");
  test::write_file(root_ / "zeros", std::string(700'000, '\0'));
  fs::create_symlink("dir/large", root_ / "link");
  fs::create_hard_link(root_ / "zeros", root_ / "dir/zeros");
  const BuildResult result = build();

  test::PackedImage image(layout_, "tag");
  image.expect_sound();
  EXPECT_EQ(image.metadata().version(), 4U);
  EXPECT_EQ(image.metadata().layer_count(), 1U);
  for (const char* path : {"dir/empty", "dir/large", "dir/sub/small", "zeros", "dir/zeros"})
    EXPECT_EQ(image.content(path), test::read_file(root_ / path)) << path;
  EXPECT_EQ(image.at("link").symlink_target(), "dir/large");
  EXPECT_EQ(result.inodes, 8U);
  EXPECT_EQ(result.content_bytes, 1'700'005U);
  EXPECT_EQ(result.new_blobs, 1U);
  EXPECT_EQ(result.new_bytes, image.packs().at(0).size);
  EXPECT_LT(result.distinct_chunks, result.chunks) << "zeros come again";
  EXPECT_THAT(test::temporary_files(layout_), IsEmpty());
}

TEST_F(PackedBuild, CompressesItsMetadata) {
  for (int i = 0; i < 100; ++i) test::write_file(root_ / std::to_string(i), "x");
  build();
  const test::PackedImage image(layout_, "tag");
  const auto& layer = image.manifest().layers.front();
  EXPECT_EQ(layer.media_type, format::kRootfsZstdType);
  EXPECT_GT(std::stoull(layer.annotations.at(std::string(format::kPlainSizeAnnotation))),
            2 * layer.size);

  build("raw", {.level = 0});
  EXPECT_EQ(test::PackedImage(layout_, "raw").manifest().layers.front().media_type,
            format::kRootfsType);
}

TEST_F(PackedBuild, GivesTheSameImageWhateverTheNumberOfThreads) {
  for (int i = 0; i < 40; ++i) {
    test::write_file(root_ / std::to_string(i),
                     test::noise(100'000, std::to_string(i % 30)) + std::string(50'000, 'a'));
  }
  std::set<format::Digest> manifests;
  for (const unsigned threads : {1U, 4U}) {
    const auto layout = fetch::Layout::create(scratch_ / ("layout" + std::to_string(threads)));
    manifests.insert(
        build_image(root_, layout, "tag",
                    {.layout = ImageLayout::kPacked, .pack_size = 500'000, .threads = threads})
            .manifest.digest);
    EXPECT_GT(test::PackedImage(layout, "tag").packs().size(), 3U);
  }
  EXPECT_THAT(manifests, SizeIs(1));
}

TEST_F(PackedBuild, GivesLongFilesChunksOfTheirOwn) {
  test::write_file(root_ / "a", "short");
  test::write_file(root_ / "b", test::noise(kMinChunkSize, "b"));
  test::write_file(root_ / "c", test::noise(kMinChunkSize - 1, "c"));
  test::write_file(root_ / "d", "short too");
  test::write_file(root_ / "e", test::noise(300'000, "e"));
  build();
  test::PackedImage image(layout_, "tag");
  for (const char* path : {"b", "e"}) {
    const auto inode = image.at(path);
    for (std::uint32_t i = 0; i < inode.chunk_count(); ++i) {
      const auto piece = inode.chunk(i);
      EXPECT_EQ(piece.offset, 0U) << path;
      EXPECT_EQ(piece.size, image.metadata().chunk(piece.index).size) << path;
    }
  }
  // Shorter ones between them share.
  EXPECT_EQ(image.at("b").chunk_count(), 1U);
  EXPECT_EQ(image.at("c").chunk(image.at("c").chunk_count() - 1).index,
            image.at("d").chunk(0).index);
}

TEST_F(PackedBuild, RecordsTimesAndLinkCounts) {
  fs::create_directories(root_ / "dir/sub");
  test::write_file(root_ / "dir/file", "x");
  fs::create_hard_link(root_ / "dir/file", root_ / "name");
  fs::create_hard_link(root_ / "dir/file", scratch_ / "outside");
  const struct timespec times[] = {{5, 6}, {1'600'000'000, 123'456'789}};
  ASSERT_EQ(::utimensat(AT_FDCWD, (root_ / "name").c_str(), times, 0), 0);
  ASSERT_EQ(::utimensat(AT_FDCWD, (root_ / "dir").c_str(), times, 0), 0);
  build();
  const test::PackedImage image(layout_, "tag");
  EXPECT_EQ(image.at("name").mtime(), 1'600'000'000'123'456'789);
  EXPECT_EQ(image.at("dir").mtime(), 1'600'000'000'123'456'789);
  EXPECT_EQ(image.at("name").link_count(), 2U) << "the name outside is not in the image";
  EXPECT_EQ(image.at("dir").link_count(), 3U);
  EXPECT_EQ(image.at("dir/sub").link_count(), 2U);
  EXPECT_EQ(image.at("").link_count(), 3U);

  build("clamped", {.timestamps = TimestampRule{Timestamps::kClamp, 1'500'000'000}});
  const test::PackedImage clamped(layout_, "clamped");
  EXPECT_EQ(clamped.at("name").mtime(), 1'500'000'000'000'000'000);
  build("zero", {.timestamps = TimestampRule{Timestamps::kZero}});
  EXPECT_EQ(test::PackedImage(layout_, "zero").at("name").mtime(), 0);
}

TEST_F(PackedBuild, LeavesTheLayoutCleanIfItFails) {
  for (int i = 0; i < 5; ++i)
    test::write_file(root_ / std::to_string(i), test::noise(3'000'000, std::to_string(i)));
  bool removed = false;
  const auto remove_last = [&](std::uint64_t) {
    if (!std::exchange(removed, true)) fs::remove(root_ / "4");
  };
  EXPECT_THROW(build("tag", {.on_progress = remove_last}), Error);
  EXPECT_TRUE(fs::is_empty(layout_.path() / "blobs" / "sha256"));
}

class PackedUpon : public PackedBuild {
 protected:
  PackedUpon() {
    for (int i = 0; i < 10; ++i)
      test::write_file(root_ / std::to_string(i), test::noise(100'000, std::to_string(i)));
    build("first", {.pack_size = 300'000});
  }

  BuildResult build_upon(const std::string& base, const std::string& tag,
                         BuildOptions options = {}) const {
    options.base_tag = base;
    if (options.pack_size == kPackSize) options.pack_size = 300'000;
    return build(tag, options);
  }

  std::vector<format::Pack> packs(const std::string& tag) const {
    return test::PackedImage(layout_, tag).packs();
  }

  void expect_holds_the_tree(const std::string& tag) const {
    test::PackedImage image(layout_, tag);
    for (const auto& entry : fs::directory_iterator(root_)) {
      const std::string name = entry.path().filename();
      EXPECT_EQ(image.content(name), test::read_file(entry.path())) << name;
    }
    EXPECT_EQ(image.at("").entry_count(),
              std::distance(fs::directory_iterator(root_), fs::directory_iterator()));
  }
};

TEST_F(PackedUpon, TheSameTreeAddsNothing) {
  const BuildResult again = build_upon("first", "again");
  EXPECT_EQ(again.new_blobs, 0U);
  EXPECT_EQ(packs("again"), packs("first"));
  EXPECT_EQ(layout_.resolve("again").digest, layout_.resolve("first").digest);
}

TEST_F(PackedUpon, AChangedFileAddsASmallPack) {
  test::write_file(root_ / "3", test::noise(50'000, "changed"));
  const auto before = packs("first");
  const BuildResult changed = build_upon("first", "changed");
  EXPECT_EQ(changed.new_blobs, 1U);
  EXPECT_EQ(changed.new_bytes, 50'000U);
  EXPECT_EQ(changed.replaced_packs, 0U);
  auto after = packs("changed");
  ASSERT_THAT(after, SizeIs(before.size() + 1));
  EXPECT_EQ(after.back().size, 50'000U);
  after.pop_back();
  EXPECT_EQ(after, before);
  expect_holds_the_tree("changed");
  test::PackedImage(layout_, "changed").expect_sound(100'000);
}

TEST_F(PackedUpon, WhatIsNeitherNeededNorReferencedGoes) {
  const auto before = packs("first");
  for (int i = 0; i < 3; ++i) fs::remove(root_ / std::to_string(i));
  build_upon("first", "less");
  const auto after = packs("less");
  EXPECT_EQ(after, std::vector(before.begin() + 1, before.end()));
  expect_holds_the_tree("less");
  test::PackedImage(layout_, "less").expect_sound();
}

TEST_F(PackedUpon, InodesKeepTheirNumbersAndWhiteoutsAreNotWritten) {
  const auto number = test::PackedImage(layout_, "first").at("5").number();
  fs::remove(root_ / "4");
  test::write_file(root_ / "00", "new");
  build_upon("first", "next");
  const test::PackedImage image(layout_, "next");
  EXPECT_EQ(image.at("5").number(), number);
  EXPECT_EQ(image.metadata().layer_count(), 1U);
  EXPECT_EQ(image.metadata().inode_count(0), 11U);
  for (std::uint32_t i = 0; i < 11; ++i)
    EXPECT_NE(image.metadata().inode(0, i).type(), format::FileType::kWhiteout);
}

TEST_F(PackedUpon, WhatIsNeededOfPoorPacksIsStoredAnew) {
  // Of the four packs, three files each but the last: one file of the first and second is left.
  for (const char* gone : {"0", "1", "3", "4", "6", "7"}) fs::remove(root_ / gone);
  const BuildResult result = build_upon("first", "poor");
  EXPECT_GT(result.replaced_packs, 0U);
  EXPECT_GT(result.moved_bytes, 0U);
  EXPECT_EQ(result.new_bytes, result.moved_bytes);
  expect_holds_the_tree("poor");
  std::uint64_t size = 0;
  for (const auto& pack : packs("poor")) size += pack.size;
  EXPECT_LE(size, 800'000U) << "at least half is needed";
}

TEST_F(PackedUpon, ThereAreNeverMorePacksThanAllowed) {
  std::string base = "first";
  for (int i = 10; i < 20; ++i) {
    test::write_file(root_ / std::to_string(i), test::noise(20'000, std::to_string(i)));
    const auto tag = "tag" + std::to_string(i);
    build_upon(base, tag, {.max_packs = 6});
    EXPECT_LE(packs(tag).size(), 6U) << tag;
    test::PackedImage(layout_, tag).expect_sound();
    base = tag;
  }
  EXPECT_EQ(packs(base).size(), 6U);
  expect_holds_the_tree(base);
}

// Other contents of the same size, at the same time of modification.
void forge(const fs::path& path) {
  struct stat before {};
  ASSERT_EQ(::stat(path.c_str(), &before), 0);
  test::write_file(path, test::noise(static_cast<std::size_t>(before.st_size), "forged"));
  const struct timespec times[] = {before.st_atim, before.st_mtim};
  ASSERT_EQ(::utimensat(AT_FDCWD, path.c_str(), times, 0), 0);
}

TEST_F(PackedUpon, TrustedFilesAreNotRead) {
  fs::create_hard_link(root_ / "1", root_ / "link");
  build("linked", {.pack_size = 300'000, .base_tag = "first"});
  const auto was = test::read_file(root_ / "2");
  forge(root_ / "2");
  test::write_file(root_ / "3", test::noise(100'000, "of another time"));
  test::write_file(root_ / "new", "new");
  const BuildResult result = build_upon("linked", "trusting", {.trust_mtime = true});
  EXPECT_EQ(result.trusted_files, 9U);
  EXPECT_EQ(result.content_bytes, 100'003U);
  EXPECT_LE(result.distinct_chunks, result.chunks);

  test::PackedImage image(layout_, "trusting");
  image.expect_sound(100'000);
  EXPECT_EQ(image.content("2"), was);
  EXPECT_EQ(image.content("3"), test::read_file(root_ / "3"));
  EXPECT_EQ(image.content("link"), test::read_file(root_ / "link"));
  EXPECT_EQ(image.at("1").number(), image.at("link").number());
  EXPECT_EQ(image.at("1").mtime(), test::PackedImage(layout_, "first").at("1").mtime());
}

TEST_F(PackedUpon, TheSameTreeTrustedIsTheSameImage) {
  const BuildResult again = build_upon("first", "again", {.trust_mtime = true});
  EXPECT_EQ(again.trusted_files, 10U);
  EXPECT_EQ(again.content_bytes, 0U);
  EXPECT_EQ(layout_.resolve("again").digest, layout_.resolve("first").digest);
}

TEST_F(PackedUpon, ContentsOfTrustedFilesMoveWithPoorPacks) {
  for (const char* gone : {"0", "1", "3", "4", "6", "7"}) fs::remove(root_ / gone);
  const BuildResult result = build_upon("first", "poor", {.trust_mtime = true});
  EXPECT_EQ(result.trusted_files, 4U);
  EXPECT_GT(result.replaced_packs, 0U);
  expect_holds_the_tree("poor");
  test::PackedImage(layout_, "poor").expect_sound(200'000);
}

// A file of all noise at that time.
void forge_at(const fs::path& path, std::int64_t seconds) {
  const struct timespec times[] = {{seconds, 0}, {seconds, 0}};
  ASSERT_EQ(::utimensat(AT_FDCWD, path.c_str(), times, 0), 0);
  forge(path);
}

TEST_F(PackedUpon, AnEpochStandsForLaterTimesAndIsNotTrusted) {
  const TimestampRule clamp{.kind = Timestamps::kClamp, .epoch = 1'500'000'000};
  build("clamped", {.timestamps = clamp, .pack_size = 300'000});
  forge_at(root_ / "5", clamp.epoch);
  const BuildResult result = build_upon("clamped", "next", {.trust_mtime = true});
  EXPECT_EQ(result.trusted_files, 0U);
  expect_holds_the_tree("next");
}

TEST_F(PackedUpon, WithoutTimesInTheBaseNothingIsTrusted) {
  build("timeless", {.timestamps = TimestampRule{.kind = Timestamps::kZero}, .pack_size = 300'000});
  forge_at(root_ / "5", 0);
  const BuildResult result = build_upon("timeless", "next", {.trust_mtime = true});
  EXPECT_EQ(result.trusted_files, 0U);
  expect_holds_the_tree("next");
}

TEST_F(PackedUpon, WhatIsNoFileInTheBaseIsNotTrusted) {
  struct stat link {};
  fs::create_symlink(std::string(100, 'x'), root_ / "5a");
  ASSERT_EQ(::lstat((root_ / "5a").c_str(), &link), 0);
  build("linked", {.pack_size = 300'000});
  fs::remove(root_ / "5a");
  test::write_file(root_ / "5a", std::string(100, 'y'));
  const struct timespec times[] = {link.st_atim, link.st_mtim};
  ASSERT_EQ(::utimensat(AT_FDCWD, (root_ / "5a").c_str(), times, 0), 0);
  EXPECT_EQ(build_upon("linked", "next", {.trust_mtime = true}).trusted_files, 10U);
  expect_holds_the_tree("next");
}

TEST_F(PackedUpon, OfLinksThatAreFilesNowOneIsTrusted) {
  fs::create_hard_link(root_ / "1", root_ / "link");
  build("linked", {.pack_size = 300'000});
  const auto time = fs::last_write_time(root_ / "link");
  fs::remove(root_ / "link");
  test::write_file(root_ / "link", test::noise(100'000, "its own"));
  fs::last_write_time(root_ / "link", time);
  EXPECT_EQ(build_upon("linked", "next", {.trust_mtime = true}).trusted_files, 10U);
  expect_holds_the_tree("next");
}

TEST_F(PackedUpon, APackThatTheLayoutLacksIsAnError) {
  fs::remove(layout_.blob_path(packs("first").at(0).digest));
  EXPECT_THROW(build_upon("first", "next"), NotFoundError);
  EXPECT_THROW(layout_.resolve("next"), NotFoundError);
}

TEST_F(PackedUpon, AnImageOfTheOtherKindIsRefused) {
  build_image(root_, layout_, "chunked", {});
  EXPECT_THAT(failure({.layout = ImageLayout::kPacked, .base_tag = "chunked"}),
              HasSubstr("Convert it first"));
  EXPECT_THAT(failure({.base_tag = "first"}), HasSubstr("Convert it first"));
}

TEST_F(PackedBuild, MetadataThatFoldsFurtherThanReadersTakeIsStoredAsItIs) {
  const auto layout = fetch::Layout::create(scratch_ / "folded");
  format::HeapSegments memory;
  format::CapnpMessage zeros({0, 1}, memory);
  zeros.add_data(zeros.root(), Bytes(10 << 20));
  const auto document = write_packed_documents(layout, zeros, {}, true);
  const auto manifest = format::parse_manifest(as_bytes(document), "it");
  EXPECT_EQ(manifest.layers.front().media_type, format::kRootfsType);
  EXPECT_EQ(manifest.layers.front().size, zeros.size());
}

}  // namespace
}  // namespace puzzlefs::build
