// Lookups, attributes and link counts, on images made here and on one that the Rust puzzlefs wrote.
#include "fs/tree.h"

#include <gtest/gtest.h>
#include <sys/sysmacros.h>

#include <cerrno>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <string>
#include <utility>

#include "../support/metadata_blob.h"
#include "../support/temp_dir.h"
#include "fetch/layout.h"
#include "format/error.h"
#include "format/oci.h"
#include "fs/open_file.h"
#include "records.h"

namespace puzzlefs::fs {
namespace {

using test::directory;
using test::Entries;
using test::file;
using test::one_layer;
using test::record;
using test::symlink;
using test::whiteout;

/// A tree and the metadata it reads.
class Image {
 public:
  explicit Image(Bytes blob) : blob_(std::move(blob)), metadata_(blob_), tree_(metadata_) {}

  Tree& tree() { return tree_; }
  format::Inode inode(std::uint64_t number) const {
    return metadata_.get(format::InodeNumber{number});
  }
  format::Inode root() const { return inode(1); }
  struct stat attributes(std::uint64_t number) {
    return tree_.attributes(inode(number));
  }
  /// The number that a name in the root leads to, or 0.
  std::uint64_t lookup(std::string_view name) {
    const auto found = tree_.lookup(root(), name);
    return found ? format::to_integer(found->number()) : 0;
  }

 private:
  Bytes blob_;
  format::Metadata metadata_;
  Tree tree_;
};

std::string numbered(std::uint64_t i) {
  auto digits = std::to_string(i);
  return "entry" + std::string(6 - digits.size(), '0') + digits;
}

/// A root with the entries `count` down to 1 or 1 up to `count`, named by numbered().
Image large_directory(std::uint64_t count, bool sorted) {
  Entries entries;
  std::vector<format::InodeRecord> inodes;
  for (std::uint64_t i = 1; i <= count; ++i) {
    const auto n = sorted ? i : count + 1 - i;
    entries.emplace_back(n + 1, numbered(n));
    inodes.push_back(file(n + 1));
  }
  inodes.push_back(directory(1, entries));
  return Image(one_layer(inodes));
}

TEST(TreeLookup, FindsEveryNameOfASmallDirectory) {
  Image image(one_layer({directory(1, {{2, "a"}, {3, "b"}}), file(2), file(3)}));
  EXPECT_EQ(image.lookup("a"), 2U);
  EXPECT_EQ(image.lookup("b"), 3U);
  EXPECT_EQ(image.lookup("c"), 0U);
}

class LargeDirectory : public testing::TestWithParam<bool> {};

TEST_P(LargeDirectory, FindsEveryNameAndNoOther) {
  constexpr std::uint64_t kCount = 1000;
  auto image = large_directory(kCount, GetParam());
  for (std::uint64_t i = 1; i <= kCount; ++i) ASSERT_EQ(image.lookup(numbered(i)), i + 1);
  EXPECT_EQ(image.lookup(numbered(0)), 0U);
  EXPECT_EQ(image.lookup(numbered(kCount + 1)), 0U);
  EXPECT_EQ(image.lookup("entry0005"), 0U);
}

INSTANTIATE_TEST_SUITE_P(Order, LargeDirectory, testing::Bool(), [](const auto& instance) {
  return instance.param ? "Sorted" : "Unsorted";
});

TEST(TreeLookup, ComparesNamesAsUnsignedBytes) {
  Entries entries;
  std::vector<format::InodeRecord> inodes;
  for (std::uint64_t i = 1; i <= 255; ++i) {
    if (i == '/' || i == '.') continue;
    entries.emplace_back(i + 1, std::string(1, static_cast<char>(i)));
    inodes.push_back(file(i + 1));
  }
  inodes.push_back(directory(1, entries));
  Image image(one_layer(inodes));
  EXPECT_EQ(image.lookup("\x7f"), 0x80U);
  EXPECT_EQ(image.lookup("\x80"), 0x81U);
  EXPECT_EQ(image.lookup("\xff"), 0x100U);
}

TEST(TreeLookup, FindsNothingInAFile) {
  Image image(one_layer({directory(1, {{2, "a"}}), file(2)}));
  EXPECT_FALSE(image.tree().lookup(image.inode(2), "a"));
}

TEST(TreeLookup, DoesNotFindWhatALayerAboveDeleted) {
  Image image(format::write_metadata(
      {{directory(1, {{2, "gone"}, {3, "kept"}}), whiteout(2)}, {file(2), file(3)}}, {}));
  EXPECT_EQ(image.lookup("gone"), 0U);
  EXPECT_EQ(image.lookup("kept"), 3U);
}

TEST(TreeLookup, FindsALiveEntryBesideAWhiteoutOfTheSameName) {
  Image image(one_layer({directory(1, {{2, "a"}, {3, "a"}}), whiteout(2), file(3)}));
  EXPECT_EQ(image.lookup("a"), 3U);
}

TEST(TreeLookup, FindsALiveEntryBesideAWhiteoutInALargeDirectory) {
  constexpr std::uint64_t kHalf = 50;
  Entries entries;
  std::vector<format::InodeRecord> inodes;
  for (std::uint64_t i = 1; i <= kHalf; ++i) {
    entries.emplace_back(2 * i, numbered(i));
    entries.emplace_back(2 * i + 1, numbered(i));
    inodes.push_back(whiteout(2 * i));
    inodes.push_back(file(2 * i + 1));
  }
  inodes.push_back(directory(1, entries));
  Image image(one_layer(inodes));
  for (std::uint64_t i = 1; i <= kHalf; ++i) EXPECT_EQ(image.lookup(numbered(i)), 2 * i + 1);
}

TEST(TreeLookup, FindsNothingWhereAnEntryLeadsNowhere) {
  Image image(one_layer({directory(1, {{9, "dangling"}})}));
  EXPECT_EQ(image.lookup("dangling"), 0U);
}

TEST(TreeAttributes, TellTheTypeOfEachKind) {
  using format::FileType;
  const std::pair<FileType, mode_t> kinds[] = {
      {FileType::kFifo, S_IFIFO},      {FileType::kCharacterDevice, S_IFCHR},
      {FileType::kDirectory, S_IFDIR}, {FileType::kBlockDevice, S_IFBLK},
      {FileType::kRegular, S_IFREG},   {FileType::kSocket, S_IFSOCK}};
  for (const auto& [type, bits] : kinds) {
    auto inode = record(1, type);
    inode.permissions = 04751;
    Image image(one_layer({inode}));
    EXPECT_EQ(image.attributes(1).st_mode, bits | 04751);
  }
}

TEST(TreeAttributes, TellOwnerAndNumber) {
  auto inode = file(7);
  inode.uid = 4000000000;
  inode.gid = 3000000000;
  Image image(one_layer({inode}));
  const auto status = image.attributes(7);
  EXPECT_EQ(status.st_ino, 7U);
  EXPECT_EQ(status.st_uid, 4000000000U);
  EXPECT_EQ(status.st_gid, 3000000000U);
  EXPECT_EQ(status.st_mtime, 0);
}

TEST(TreeAttributes, TellTheTimeOfModificationWhereItIsRecorded) {
  auto late = file(2);
  late.mtime = 1'700'000'000'123'456'789;
  auto early = file(3);
  early.mtime = -1'500'000'000;
  Image image(one_layer({directory(1, {{2, "a"}, {3, "b"}}), late, early}));
  const auto status = image.attributes(2);
  EXPECT_EQ(status.st_mtim.tv_sec, 1'700'000'000);
  EXPECT_EQ(status.st_mtim.tv_nsec, 123'456'789);
  EXPECT_EQ(status.st_ctim.tv_sec, 1'700'000'000);
  EXPECT_EQ(status.st_atim.tv_sec, 1'700'000'000);
  EXPECT_EQ(image.attributes(3).st_mtim.tv_sec, -2);
  EXPECT_EQ(image.attributes(3).st_mtim.tv_nsec, 500'000'000);
}

TEST(TreeAttributes, TellTheSumOfAFilesPiecesInWholeBlocks) {
  const auto chunk = format::sha256(as_bytes("any"));
  Image image(one_layer({file(1, {{chunk, 5, 512, false}, {chunk, 0, 1, false}})}));
  EXPECT_EQ(image.attributes(1).st_size, 513);
  EXPECT_EQ(image.attributes(1).st_blocks, 2);
  EXPECT_EQ(image.attributes(1).st_blksize, 4096);
}

TEST(TreeAttributes, TellTheLengthOfALinksTarget) {
  Image image(one_layer({symlink(1, "../target")}));
  EXPECT_EQ(image.attributes(1).st_mode, static_cast<mode_t>(S_IFLNK | 0777));
  EXPECT_EQ(image.attributes(1).st_size, 9);
}

TEST(TreeAttributes, TellADevicesNumber) {
  auto inode = record(1, format::FileType::kBlockDevice);
  inode.device = {.major = 4095, .minor = 1048575};
  Image image(one_layer({inode}));
  EXPECT_EQ(image.attributes(1).st_rdev, makedev(4095, 1048575));
}

TEST(TreeLinks, CountTheNamesOfAFileInTheWholeTree) {
  Image image(one_layer({directory(1, {{2, "a"}, {3, "b"}, {4, "d"}}), file(2), file(3),
                         directory(4, {{2, "c"}, {2, "e"}})}));
  EXPECT_EQ(image.attributes(2).st_nlink, 3U);
  EXPECT_EQ(image.attributes(3).st_nlink, 1U);
}

TEST(TreeLinks, AreNotCountedAgainRightAfterAFailure) {
  Image image(one_layer({directory(1, {{2, "a"}}), file(2)}));
  int times = 0;
  Tree tree(image.tree().metadata(), [&]() -> LinkCounts {
    ++times;
    throw Error(EIO, "It cannot be read.");
  });
  EXPECT_THROW(tree.attributes(image.root()), Error);
  EXPECT_THROW(tree.attributes(image.root()), Error);
  EXPECT_EQ(times, 1);
}

TEST(TreeLinks, AreThoseRecordedWhereThereAreAny) {
  auto recorded = file(2);
  recorded.link_count = 7;
  Image image(one_layer({directory(1, {{2, "a"}, {3, "b"}, {3, "c"}}), recorded, file(3)}));
  EXPECT_EQ(image.attributes(2).st_nlink, 7U);
  EXPECT_EQ(image.attributes(3).st_nlink, 2U);
}

TEST(TreeLinks, CountTheSubdirectoriesOfADirectory) {
  Image image(one_layer(
      {directory(1, {{2, "a"}, {3, "b"}, {4, "c"}}), file(2), directory(3, {}), directory(4, {})}));
  EXPECT_EQ(image.attributes(1).st_nlink, 4U);
  EXPECT_EQ(image.attributes(3).st_nlink, 2U);
}

TEST(TreeLinks, DoNotCountNamesThatNoPathLeadsTo) {
  // The lower layer's version of directory 3, and directory 4, which nothing leads to any more.
  Image image(format::write_metadata({{directory(1, {{2, "a"}, {3, "d"}}), directory(3, {})},
                                      {directory(1, {{2, "a"}, {3, "d"}, {4, "e"}}), file(2),
                                       directory(3, {{2, "b"}}), directory(4, {{2, "c"}})}},
                                     {}));
  EXPECT_EQ(image.attributes(2).st_nlink, 1U);
}

TEST(TreeLinks, CountNamesOfNumbersOutOfAllProportion) {
  constexpr auto kHuge = ~std::uint64_t{0} - 1;
  Image image(one_layer({directory(1, {{kHuge, "a"}, {kHuge, "b"}, {kHuge + 1, "c"}}), file(kHuge),
                         file(kHuge + 1)}));
  EXPECT_EQ(image.attributes(kHuge).st_nlink, 2U);
  EXPECT_EQ(image.attributes(kHuge + 1).st_nlink, 1U);
}

TEST(TreeLinks, CountInATreeThatIsACycle) {
  Image image(one_layer({directory(1, {{2, "d"}, {3, "f"}}),
                         directory(2, {{1, "up"}, {2, "self"}, {3, "g"}}), file(3)}));
  EXPECT_EQ(image.attributes(3).st_nlink, 2U);
  EXPECT_EQ(image.tree().totals().inodes, 3U);
}

constexpr std::uint64_t kPackSize = 6000;

/// A packed image of one file, inode 2, that has 5000 bytes and says that it has `claimed`.
Bytes image_of_file_that_claims(std::uint64_t claimed) {
  constexpr std::uint64_t kTrueSize = 5000;
  format::PackedContents contents;
  contents.packs = {{.digest = format::sha256(as_bytes("pack")), .size = kPackSize, .hot_size = 0}};
  contents.chunks = {{.digest = format::sha256(as_bytes("chunk")),
                      .pack = 0,
                      .offset = 0,
                      .stored_size = kTrueSize,
                      .size = kTrueSize}};
  format::ChunkRef first;
  first.index = format::ChunkIndex{0};
  first.size = 2000;
  auto second = first;
  second.offset = 2000;
  second.size = 3000;
  auto blob =
      format::write_packed_metadata({directory(1, {{2, "f"}}), file(2, {first, second})}, contents);
  for (std::size_t at = 0; at + sizeof claimed <= blob.size(); at += sizeof claimed) {
    std::uint64_t word = 0;
    std::memcpy(&word, blob.data() + at, sizeof word);
    if (word == kTrueSize) std::memcpy(blob.data() + at, &claimed, sizeof claimed);
  }
  return blob;
}

TEST(TreeSizes, AreNotZeroWhereThereArePieces) {
  Image image(image_of_file_that_claims(0));
  EXPECT_THROW(image.attributes(2), CorruptError);
  EXPECT_EQ(Image(image_of_file_that_claims(5000)).attributes(2).st_size, 5000);
}

TEST(TreeSizes, MustBeThatOfThePiecesForAReader) {
  for (const std::uint64_t claimed : {0, 4999, 5001}) {
    const Image image(image_of_file_that_claims(claimed));
    EXPECT_THROW(OpenFile(image.inode(2)), CorruptError) << claimed;
  }
  const Image image(image_of_file_that_claims(5000));
  EXPECT_EQ(OpenFile(image.inode(2)).size(), 5000U);
}

TEST(TreeTotals, AreThoseThatAPackedImageSays) {
  Image image(image_of_file_that_claims(5000));
  EXPECT_EQ(image.tree().totals().inodes, 2U);
  EXPECT_EQ(image.tree().totals().bytes, kPackSize);
}

TEST(TreeTotals, CountEachReachableInodeOnce) {
  const auto chunk = format::sha256(as_bytes("any"));
  Image image(one_layer({directory(1, {{2, "a"}, {2, "b"}, {3, "l"}, {4, "unlisted"}}),
                         file(2, {{chunk, 0, 1000, false}}), symlink(3, "a"), whiteout(4),
                         file(5, {{chunk, 0, 5000, false}})}));
  EXPECT_EQ(image.tree().totals().inodes, 3U);
  EXPECT_EQ(image.tree().totals().bytes, 1000U);
}

/// The tree of tests/fixtures/kinds.sh as the Rust puzzlefs 0.2 stored it.
class GoldenTree : public testing::TestWithParam<std::string> {
 protected:
  GoldenTree() : image_(unpack(directory_, GetParam())) {}

  struct stat at(const std::string& path) {
    auto inode = image_.root();
    for (const auto& part : std::filesystem::path(path)) {
      const auto child = image_.tree().lookup(inode, part.native());
      if (!child) throw NotFoundError("There is no " + path + ".");
      inode = *child;
    }
    return image_.tree().attributes(inode);
  }

 private:
  static Bytes unpack(const puzzlefs::test::TempDir& directory, const std::string& tag) {
    const auto command = "tar -C '" + directory.path().native() +
                         "' --zstd -xf '" PUZZLEFS_FIXTURES "/kinds.oci.tar.zst'";
    if (std::system(command.c_str()) != 0) throw Error(EIO, "tar failed.");
    const auto layout = fetch::Layout::open(directory / "oci");
    const auto manifest = format::parse_manifest(
        layout.map_blob(layout.resolve(tag).digest).bytes(), "the golden manifest");
    const auto metadata = layout.map_blob(format::metadata_layer(manifest, tag).digest);
    return {metadata.bytes().begin(), metadata.bytes().end()};
  }

  puzzlefs::test::TempDir directory_;
  Image image_;
};

TEST_P(GoldenTree, HasTheAttributesOfItsOriginal) {
  EXPECT_EQ(at("bin/tool").st_mode, static_cast<mode_t>(S_IFREG | 04755));
  EXPECT_EQ(at("bin/tool").st_size, 300000);
  EXPECT_EQ(at("usr/lib").st_mode, static_cast<mode_t>(S_IFDIR | 02755));
  EXPECT_EQ(at("run").st_mode, static_cast<mode_t>(S_IFDIR | 01777));
  EXPECT_EQ(at("run/pipe").st_mode & S_IFMT, static_cast<mode_t>(S_IFIFO));
  EXPECT_EQ(at("run/sock").st_mode & S_IFMT, static_cast<mode_t>(S_IFSOCK));
  EXPECT_EQ(at("dev/null").st_rdev, makedev(1, 3));
  EXPECT_EQ(at("dev/sda").st_mode & S_IFMT, static_cast<mode_t>(S_IFBLK));
  EXPECT_EQ(at("dev/big").st_rdev, makedev(4095, 1048575));
  EXPECT_EQ(at("etc/empty").st_uid, 4000000000U);
  EXPECT_EQ(at("etc/longlink").st_size, 4000);
  EXPECT_EQ(at("etc/\xff\xfe name").st_size, 1);
}

TEST_P(GoldenTree, HasTheLinksOfItsOriginal) {
  EXPECT_EQ(at("usr/lib/libbig.so").st_nlink, 2U);
  EXPECT_EQ(at("usr/lib/libbig.so").st_ino, at("usr/lib/libbig.so.1").st_ino);
  EXPECT_EQ(at("usr/lib/zeros").st_nlink, 1U);
  EXPECT_EQ(at("etc").st_nlink, 3U);
  EXPECT_EQ(at("usr/lib").st_nlink, 2U);
}

INSTANTIATE_TEST_SUITE_P(Tags, GoldenTree, testing::Values("kinds", "kinds-compressed"),
                         [](const auto& instance) {
                           return instance.param == "kinds" ? "Plain" : "Compressed";
                         });

}  // namespace
}  // namespace puzzlefs::fs
