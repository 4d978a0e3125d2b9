// "puzzlefs build": which image the options ask for.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "../support/environment.h"
#include "../support/temp_dir.h"
#include "build/base_image.h"
#include "run_puzzlefs.h"

namespace puzzlefs::tools {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

constexpr std::int64_t kSecond = 1'000'000'000;

class BuildCommand : public testing::Test {
 protected:
  BuildCommand() {
    fs::create_directory(scratch_ / "tree");
    std::ofstream(scratch_ / "tree/file") << std::string(100'000, 'a');
  }

  Result build(std::vector<std::string> options) const {
    options.insert(options.begin(), "build");
    options.push_back(scratch_ / "tree");
    options.push_back(layout_);
    return puzzlefs(std::move(options));
  }

  build::BaseImage built() const { return {fetch_layout(), "latest"}; }

  // Of the root directory, which has just been made.
  std::int64_t mtime() const { return built().metadata().get(format::kRootInode).mtime(); }

  const fetch::Layout& fetch_layout() const {
    if (!opened_) opened_.emplace(fetch::Layout::open(layout_));
    return *opened_;
  }

  const test::TempDir scratch_;
  const std::string layout_ = scratch_ / "layout";
  mutable std::optional<fetch::Layout> opened_;
};

TEST_F(BuildCommand, BuildsWhatTheLayoutSays) {
  ASSERT_EQ(build({}).code, 0);
  EXPECT_FALSE(built().is_packed());
  ASSERT_EQ(build({"--layout", "packed"}).code, 0);
  EXPECT_TRUE(built().is_packed());
  ASSERT_EQ(build({"--layout", "chunked"}).code, 0);
  EXPECT_FALSE(built().is_packed());
  EXPECT_EQ(build({"--layout", "boxed"}).code, 2);
}

TEST_F(BuildCommand, CompressesPackedImagesAsHardAsAskedFor) {
  const auto stored_size = [this](const std::vector<std::string>& options) {
    EXPECT_EQ(build(options).code, 0);
    return built().metadata().chunk(format::ChunkIndex{0}).stored_size;
  };
  const auto usual = stored_size({"--layout", "packed"});
  EXPECT_LT(usual, 1000U);
  EXPECT_EQ(stored_size({"--layout", "packed", "-c"}), usual);
  EXPECT_EQ(stored_size({"--layout", "packed", "--compression-level", "0"}), 100'000U);
  EXPECT_LE(stored_size({"--layout", "packed", "--compression-level", "19"}), usual);
  EXPECT_EQ(build({"--layout", "packed", "--compression-level", "20"}).code, 2);
  EXPECT_EQ(build({"--layout", "packed", "--compression-level", "-1"}).code, 2);
  const auto chunked = build({"--compression-level", "3"});
  EXPECT_EQ(chunked.code, 2);
  EXPECT_THAT(chunked.err, HasSubstr("--layout packed"));
}

TEST_F(BuildCommand, KeepsTheTimesThatItIsToKeep) {
  const test::ScopedVariable none("SOURCE_DATE_EPOCH", std::nullopt);
  ASSERT_EQ(build({}).code, 0);
  EXPECT_EQ(mtime(), 0);
  ASSERT_EQ(build({"--layout", "packed"}).code, 0);
  const auto now = mtime();
  EXPECT_GT(now, 1'600'000'000 * kSecond);
  ASSERT_EQ(build({"--timestamps", "keep"}).code, 0);
  EXPECT_EQ(mtime(), now);
  ASSERT_EQ(build({"--layout", "packed", "--timestamps", "zero"}).code, 0);
  EXPECT_EQ(mtime(), 0);
  const auto clamped = build({"--timestamps", "clamp"});
  EXPECT_EQ(clamped.code, 2);
  EXPECT_THAT(clamped.err, HasSubstr("SOURCE_DATE_EPOCH"));
}

TEST_F(BuildCommand, HeedsSourceDateEpoch) {
  const test::ScopedVariable epoch("SOURCE_DATE_EPOCH", "1500000000");
  ASSERT_EQ(build({"--layout", "packed"}).code, 0);
  EXPECT_EQ(mtime(), 1'500'000'000 * kSecond);
  ASSERT_EQ(build({"--timestamps", "clamp"}).code, 0);
  EXPECT_EQ(mtime(), 1'500'000'000 * kSecond);
  ASSERT_EQ(build({"--layout", "packed", "--timestamps", "keep"}).code, 0);
  EXPECT_GT(mtime(), 1'600'000'000 * kSecond);
  ASSERT_EQ(build({}).code, 0);
  EXPECT_EQ(mtime(), 0) << "as the Rust program";
}

TEST_F(BuildCommand, RefusesASourceDateEpochThatIsNoTime) {
  const test::ScopedVariable epoch("SOURCE_DATE_EPOCH", "yesterday");
  const auto refused = build({"--layout", "packed"});
  EXPECT_EQ(refused.code, 2);
  EXPECT_THAT(refused.err, HasSubstr("yesterday"));
  EXPECT_FALSE(fs::exists(layout_));
  EXPECT_EQ(build({}).code, 0) << "where it is not asked for";
}

}  // namespace
}  // namespace puzzlefs::tools
