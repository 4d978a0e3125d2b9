// A tree built upon another image: the golden delta of the Rust puzzlefs, less its defects, and the
// cases that it gets wrong.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <set>
#include <string>
#include <vector>

#include "../support/temp_dir.h"
#include "build/build_image.h"
#include "build/extract.h"
#include "format/error.h"
#include "trees.h"

namespace puzzlefs::build {
namespace {

namespace fs = std::filesystem;
using format::FileType;
using format::InodeRecord;

class Delta : public testing::Test {
 protected:
  Delta() { fs::create_directory(root_); }

  BuildResult build(const std::string& tag, const std::string& base = {}) const {
    return build_image(root_, layout_, tag, {.base_tag = base});
  }

  std::vector<InodeRecord> top_layer(const fetch::Layout& layout, const std::string& tag) {
    const auto image = test::open_image(runtime_, layout, tag);
    std::vector<InodeRecord> records;
    for (std::uint32_t i = 0; i < image->metadata().inode_count(0); ++i)
      records.push_back(format::to_record(image->metadata().inode(0, i)));
    return records;
  }

  format::InodeNumber number_of(const std::string& tag, const std::string& name) {
    const auto records = top_layer(layout_, tag);
    for (const auto& entry : records.front().entries)
      if (entry.name == name) return entry.ino;
    throw NotFoundError("The root has no " + name + ".");
  }

  std::set<std::uint64_t> whiteouts(const std::string& tag) {
    std::set<std::uint64_t> numbers;
    const auto records = top_layer(layout_, tag);
    for (const auto& record : records)
      if (record.type == FileType::kWhiteout) numbers.insert(format::to_integer(record.ino));
    return numbers;
  }

  void expect_extracts_as_built(const std::string& tag) {
    const auto image = test::open_image(runtime_, layout_, tag);
    extract_image(*image, scratch_ / ("copy-of-" + tag));
    EXPECT_EQ(test::describe_tree(scratch_ / ("copy-of-" + tag)), test::describe_tree(root_));
  }

  const test::TempDir scratch_;
  const fs::path root_ = scratch_ / "root";
  const fetch::Layout layout_ = fetch::Layout::create(scratch_ / "layout");
  fetch::Runtime runtime_;
};

// What the Rust program should have written: no entries for what is gone, and no whiteout of an
// inode that another name still has.
std::vector<InodeRecord> without_defects(std::vector<InodeRecord> records) {
  std::set<format::InodeNumber> alive;
  std::set<format::InodeNumber> gone;
  for (const auto& record : records)
    (record.type == FileType::kWhiteout ? gone : alive).insert(record.ino);
  std::erase_if(records, [&](const auto& record) {
    return record.type == FileType::kWhiteout && alive.contains(record.ino);
  });
  for (auto& record : records) {
    auto& entries = record.entries;
    // Its whiteout entries come first, out of order: a live entry of the same number comes after.
    const auto live =
        std::is_sorted_until(entries.rbegin(), entries.rend(),
                             [](const auto& a, const auto& b) { return a.name > b.name; });
    entries.erase(entries.begin(), live.base());
    std::erase_if(entries, [&](const auto& entry) {
      return gone.contains(entry.ino) && !alive.contains(entry.ino);
    });
  }
  return records;
}

TEST_F(Delta, IsTheGoldenOneWithoutItsDefects) {
  if (!test::is_root()) GTEST_SKIP() << "needs root to make devices";
  const std::string unpack = "tar -C '" + scratch_.path().string() +
                             "' --zstd -xf '" PUZZLEFS_FIXTURES "/kinds.oci.tar.zst'";
  ASSERT_EQ(std::system(unpack.c_str()), 0);
  const auto golden = fetch::Layout::open(scratch_ / "oci");
  test::make_kinds(root_);
  build("kinds");
  const std::string change = "'" PUZZLEFS_FIXTURES "/kinds-second.sh' '" + root_.string() + "'";
  ASSERT_EQ(std::system(change.c_str()), 0);

  build("delta", "kinds");

  EXPECT_EQ(top_layer(layout_, "delta"), without_defects(top_layer(golden, "kinds-delta")));
  const auto ours = test::open_image(runtime_, layout_, "delta");
  const auto theirs = test::open_image(runtime_, golden, "kinds-delta");
  EXPECT_EQ(ours->metadata().layer_count(), 2U);
  ASSERT_EQ(ours->metadata().verity_count(), theirs->metadata().verity_count());
  for (std::uint32_t i = 0; i < ours->metadata().verity_count(); ++i)
    EXPECT_EQ(ours->metadata().verity_at(i), theirs->metadata().verity_at(i));
  expect_extracts_as_built("delta");
}

TEST_F(Delta, KeepsNumbersAndCountsOnForNewNames) {
  test::write_file(root_ / "b", "b");
  test::write_file(root_ / "c", "c");
  build("base");
  test::write_file(root_ / "a", "a");
  test::write_file(root_ / "c", "changed");

  build("delta", "base");

  EXPECT_EQ(number_of("delta", "b"), number_of("base", "b"));
  EXPECT_EQ(number_of("delta", "c"), number_of("base", "c"));
  EXPECT_EQ(number_of("delta", "a"), format::InodeNumber{4});
  expect_extracts_as_built("delta");
}

TEST_F(Delta, WhitesOutWhatIsGone) {
  test::write_file(root_ / "gone", "1");
  fs::create_directory(root_ / "kept");
  test::write_file(root_ / "kept/gone", "2");
  build("base");
  fs::remove(root_ / "gone");
  fs::remove(root_ / "kept/gone");

  build("delta", "base");

  EXPECT_EQ(whiteouts("delta"), (std::set<std::uint64_t>{2, 4}));
  expect_extracts_as_built("delta");
}

TEST_F(Delta, DoesNotWhiteOutAnInodeThatHasAnotherName) {
  test::write_file(root_ / "one", "contents");
  fs::create_hard_link(root_ / "one", root_ / "two");
  build("base");
  fs::remove(root_ / "two");

  build("delta", "base");

  EXPECT_EQ(whiteouts("delta"), std::set<std::uint64_t>{});
  expect_extracts_as_built("delta");
}

TEST_F(Delta, GivesTwoFilesThatWereOneTheirOwnNumbers) {
  test::write_file(root_ / "one", "contents");
  fs::create_hard_link(root_ / "one", root_ / "two");
  build("base");
  fs::remove(root_ / "two");
  test::write_file(root_ / "two", "other");

  build("delta", "base");

  EXPECT_EQ(number_of("delta", "one"), number_of("base", "one"));
  EXPECT_NE(number_of("delta", "two"), number_of("base", "two"));
  expect_extracts_as_built("delta");
}

TEST_F(Delta, TakesANameThatChangedItsKind) {
  fs::create_directory(root_ / "name");
  test::write_file(root_ / "name/inner", "1");
  build("base");
  fs::remove_all(root_ / "name");
  test::write_file(root_ / "name", "now a file");

  build("delta", "base");

  expect_extracts_as_built("delta");
}

TEST_F(Delta, OfAnUnchangedTreeAddsNoLayer) {
  test::write_file(root_ / "file", "contents");
  const auto base = build("base");
  EXPECT_EQ(build("delta", "base").manifest.digest, base.manifest.digest);
}

TEST_F(Delta, CanBeBuiltUponADelta) {
  test::write_file(root_ / "one", "1");
  build("first");
  fs::remove(root_ / "one");
  test::write_file(root_ / "two", "2");
  build("second", "first");
  test::write_file(root_ / "one", "back");

  build("third", "second");

  EXPECT_EQ(test::open_image(runtime_, layout_, "third")->metadata().layer_count(), 3U);
  expect_extracts_as_built("third");
}

TEST_F(Delta, OfATagThatDoesNotExistNamesIt) {
  try {
    build("delta", "nosuchbase");
    FAIL();
  } catch (const NotFoundError& error) {
    EXPECT_THAT(error.what(), testing::HasSubstr("nosuchbase"));
  }
}

}  // namespace
}  // namespace puzzlefs::build
