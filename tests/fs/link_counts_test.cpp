// Link counts that one mount leaves for the next, on images whose metadata is large enough for
// that.
#include "fs/link_counts.h"

#include <gtest/gtest.h>
#include <sys/mount.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "../support/temp_dir.h"
#include "fetch/blob_notes.h"
#include "fetch/image.h"
#include "fetch/layout.h"
#include "format/oci.h"
#include "format/verity.h"
#include "fs/tree.h"
#include "records.h"

namespace puzzlefs::fs {
namespace {

using test::directory;
using test::Entries;
using test::file;

constexpr std::uint64_t kMany = 3;  // a file with many names
constexpr std::uint64_t kOther = 4;
constexpr std::uint64_t kFolder = 5;
constexpr std::uint32_t kNames = 20'000;

/// The root with two names of kOther and kNames of kMany, and kFolder with two folders and one more
/// name of kOther.
std::vector<format::InodeRecord> linked_files() {
  Entries entries{{kOther, "a"}, {kOther, "b"}, {kFolder, "folder"}};
  for (std::uint32_t i = 0; i < kNames; ++i) {
    auto digits = std::to_string(i);
    entries.emplace_back(kMany, std::string(220 - digits.size(), 'n') + digits);
  }
  return {directory(1, entries), file(kMany),
          file(kOther),          directory(kFolder, {{6, "1"}, {7, "2"}, {kOther, "c"}}),
          directory(6, {}),      directory(7, {})};
}

/// The counts in which an image differs from all others here.
struct Expected {
  std::uint32_t many = kNames;
  std::uint32_t other = 3;
  std::uint32_t root = 3;
  std::uint32_t folder = 4;
  std::uint64_t inodes = 6;

  bool operator==(const Expected&) const = default;
};

Expected seen_by(Tree& tree) {
  const auto links = [&](std::uint64_t number) {
    const auto inode = tree.metadata().get(format::InodeNumber{number});
    return static_cast<std::uint32_t>(tree.attributes(inode).st_nlink);
  };
  return {links(kMany), links(kOther), links(1), links(kFolder), tree.totals().inodes};
}

class LinkCountsTest : public ::testing::Test {
 protected:
  explicit LinkCountsTest(Bytes metadata = format::write_metadata({linked_files()}, {}))
      : metadata_(std::move(metadata)) {
    format::Manifest manifest;
    manifest.config = format::empty_config();
    manifest.layers = {describe(format::kRootfsType, metadata_)};
    manifest.layers[0].annotations[std::string(format::kVerityAnnotation)] =
        format::verity_digest(metadata_).hex();
    const auto document = format::to_json_text(manifest);
    const auto described = describe(format::kManifestType, as_bytes(document));
    layout_.write_blob(blob().digest, metadata_);
    layout_.write_blob(described.digest, as_bytes(document));
    layout_.set_tag("tag", described);
  }

  static format::Descriptor describe(std::string_view type, ByteView content) {
    return {
        .media_type = std::string(type), .digest = format::sha256(content), .size = content.size()};
  }
  format::Descriptor blob() const { return describe(format::kRootfsType, metadata_); }

  /// What a mount sees.
  Expected mount() {
    fetch::ImageOptions options;
    options.cache_directory = cache_;
    options.lazy_metadata = true;
    const auto image =
        fetch::Image::open(runtime_, format::LayoutName{layout_.path(), "tag"}, options);
    Tree tree(image->metadata(), [&] { return link_counts(*image); });
    return seen_by(tree);
  }

  std::filesystem::path file_of_note() const {
    return cache_ / "trees" / (blob().digest.hex() + ".note");
  }
  std::string kept() const {
    return std::string(as_text(fetch::read_file(file_of_note(), 1 << 20)));
  }
  void plant(const std::string& contents) const { std::ofstream(file_of_note()) << contents; }
  void plant_note(ByteView note) const {
    fetch::BlobNotes(cache_ / "trees").remember(blob(), note);
  }
  /// Those of a root with two names of kMany, which is wrong here.
  static Bytes note_of_another() {
    const auto other = test::one_layer({directory(1, {{kMany, "a"}, {kMany, "b"}}), file(kMany)});
    const LinkCounts counts{format::Metadata(other)};
    return {counts.note().begin(), counts.note().end()};
  }

  puzzlefs::test::TempDir temp_;
  const Bytes metadata_;
  std::filesystem::path cache_ = temp_ / "cache";
  fetch::Layout layout_ = fetch::Layout::create(temp_ / "layout");
  fetch::Runtime runtime_{2};
};

TEST_F(LinkCountsTest, AreTheSameInEveryMount) {
  EXPECT_EQ(mount(), Expected());
  const auto first = kept();
  EXPECT_EQ(mount(), Expected());
  EXPECT_EQ(kept(), first);
}

TEST_F(LinkCountsTest, OfTheFirstMountAreThoseOfTheNext) {
  EXPECT_EQ(mount(), Expected());
  plant_note(note_of_another());
  EXPECT_EQ(mount(), (Expected{.many = 2, .other = 1, .root = 2, .folder = 2, .inodes = 2}));
}

TEST_F(LinkCountsTest, AreCountedAnewWhereTheirFileIsDamaged) {
  EXPECT_EQ(mount(), Expected());
  const auto right = kept();
  auto changed = right;
  changed[changed.size() / 2] ^= 1;
  for (const auto& wrong :
       {changed, right.substr(0, right.size() - 1), std::string(), right + right}) {
    plant(wrong);
    EXPECT_EQ(mount(), Expected()) << wrong.size();
    EXPECT_EQ(kept(), right) << wrong.size();
  }
}

TEST_F(LinkCountsTest, AreCountedAnewWhereTheirFileIsOfAnotherImage) {
  EXPECT_EQ(mount(), Expected());
  const auto right = kept();
  const auto other = describe("", as_bytes(std::string(1000, '#')));
  fetch::BlobNotes(cache_ / "trees").remember(other, note_of_another());
  std::filesystem::rename(cache_ / "trees" / (other.digest.hex() + ".note"), file_of_note());
  EXPECT_EQ(mount(), Expected());
  EXPECT_EQ(kept(), right);
}

TEST_F(LinkCountsTest, AreCountedAnewWhereTheNoteIsNoneOfTheirs) {
  EXPECT_EQ(mount(), Expected());
  const auto right = kept();
  const auto good = note_of_another();
  std::vector<Bytes> notes(5, good);
  notes[0][7] ^= std::byte{1};                                     // another version
  notes[1].pop_back();                                             // half a record
  notes[2].erase(notes[2].end() - 12, notes[2].end());             // too few
  notes[3].clear();                                                // not even a header
  std::memset(notes[4].data() + 24, 0xff, sizeof(std::uint64_t));  // records without number
  for (const auto& note : notes) {
    plant_note(note);
    EXPECT_EQ(mount(), Expected()) << &note - notes.data();
    EXPECT_EQ(kept(), right) << &note - notes.data();
  }
}

TEST_F(LinkCountsTest, MayBeNonsense) {
  EXPECT_EQ(mount(), Expected());
  auto note = note_of_another();
  std::memset(note.data() + 8, 0xff, 2 * sizeof(std::uint64_t));  // totals
  std::memset(note.data() + 32, 0, note.size() - 32);             // numbers and counts
  plant_note(note);
  const auto seen = mount();
  EXPECT_EQ(seen.many, 1);
  EXPECT_EQ(seen.folder, 2);
  EXPECT_EQ(seen.inodes, ~std::uint64_t{0});
}

TEST_F(LinkCountsTest, OfACacheThatMayNotBeWrittenAreUsed) {
  EXPECT_EQ(mount(), Expected());
  plant_note(note_of_another());
  if (::mount(cache_.c_str(), cache_.c_str(), nullptr, MS_BIND, nullptr) != 0)
    GTEST_SKIP() << "may not mount";
  const std::shared_ptr<void> mounted(nullptr,
                                      [&](void*) { ::umount2(cache_.c_str(), MNT_DETACH); });
  const auto make_read_only = [&](unsigned long flags) {
    return ::mount(nullptr, cache_.c_str(), nullptr, MS_BIND | MS_REMOUNT | flags, nullptr);
  };
  EXPECT_EQ(make_read_only(MS_RDONLY), 0);
  EXPECT_EQ(mount().many, 2);
  EXPECT_EQ(make_read_only(0), 0);
  plant("rotten");
  EXPECT_EQ(make_read_only(MS_RDONLY), 0);
  EXPECT_EQ(mount(), Expected());
  EXPECT_EQ(kept(), "rotten");
}

TEST_F(LinkCountsTest, AreCountedWithoutACache) {
  std::ofstream(cache_) << "no directory";
  EXPECT_EQ(mount(), Expected());
}

TEST_F(LinkCountsTest, OfDamagedMetadataAreNotKept) {
  EXPECT_EQ(mount(), Expected());
  std::filesystem::remove(file_of_note());
  const auto path = layout_.blob_path(blob().digest);
  std::filesystem::permissions(path, std::filesystem::perms::owner_all);
  std::fstream(path, std::ios::in | std::ios::out | std::ios::binary).seekp(3 << 20) << "#";
  EXPECT_THROW(mount(), CorruptError);
  EXPECT_FALSE(std::filesystem::exists(file_of_note()));
}

/// The same with a layer above, in which kOther has lost a name and kFolder a folder.
class LinkCountsOfADeltaTest : public LinkCountsTest {
 protected:
  LinkCountsOfADeltaTest()
      : LinkCountsTest(format::write_metadata(
            {{directory(kFolder, {{6, "1"}}), test::whiteout(7)}, linked_files()}, {})) {}
};

TEST_F(LinkCountsOfADeltaTest, AreTheSameInEveryMount) {
  const Expected expected{.other = 2, .folder = 3, .inodes = 5};
  EXPECT_EQ(mount(), expected);
  EXPECT_TRUE(std::filesystem::exists(file_of_note()));
  EXPECT_EQ(mount(), expected);
}

}  // namespace
}  // namespace puzzlefs::fs
