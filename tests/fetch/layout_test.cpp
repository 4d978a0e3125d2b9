#include "fetch/layout.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <thread>

#include "../support/temp_dir.h"
#include "format/error.h"

namespace puzzlefs::fetch {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::ThrowsMessage;

std::string text_of(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

void write_text(const fs::path& path, std::string_view text) {
  std::ofstream(path, std::ios::binary) << text;
}

format::Descriptor descriptor_of(std::string_view text) {
  format::Descriptor descriptor;
  descriptor.media_type = format::kManifestType;
  descriptor.digest = format::sha256(as_bytes(text));
  descriptor.size = text.size();
  return descriptor;
}

class LayoutTest : public ::testing::Test {
 protected:
  std::string index() const { return text_of(temp_ / "image/index.json"); }

  test::TempDir temp_;
  Layout layout_ = Layout::create(temp_ / "image");
};

TEST_F(LayoutTest, CreateWritesWhatTheRustProgramWrites) {
  EXPECT_EQ(text_of(temp_ / "image/oci-layout"), R"({"imageLayoutVersion":"1.0.0"})");
  EXPECT_EQ(index(), R"({"manifests":[],"schemaVersion":2})");
  EXPECT_TRUE(fs::is_directory(temp_ / "image/blobs/sha256"));
}

TEST_F(LayoutTest, CreateKeepsWhatIsThere) {
  layout_.set_tag("one", descriptor_of("manifest"));
  EXPECT_THAT(Layout::create(temp_ / "image").tags(), ElementsAre("one"));
}

TEST_F(LayoutTest, CreateAcceptsABlobDirectoryThatIsALink) {
  const auto digest = format::sha256(as_bytes("x"));
  fs::create_directories(temp_ / "shared");
  fs::create_directories(temp_ / "second/blobs");
  fs::create_directory_symlink(temp_ / "shared", temp_ / "second/blobs/sha256");
  Layout::create(temp_ / "second").write_blob(digest, as_bytes("x"));
  EXPECT_EQ(text_of(temp_ / "shared" / digest.hex()), "x");
}

TEST_F(LayoutTest, OpenOfAnOrdinaryDirectoryNamesIt) {
  EXPECT_THAT([&] { Layout::open(temp_.path()); },
              ThrowsMessage<NotFoundError>(HasSubstr(temp_.path().native())));
}

TEST_F(LayoutTest, OpenRefusesAnUnknownVersion) {
  write_text(temp_ / "image/oci-layout", R"({"imageLayoutVersion":"2.0.0"})");
  EXPECT_THROW(Layout::open(temp_ / "image"), CorruptError);
}

TEST_F(LayoutTest, OpenRefusesAVersionFileThatIsNotJson) {
  write_text(temp_ / "image/oci-layout", "1.0.0");
  EXPECT_THROW(Layout::open(temp_ / "image"), CorruptError);
}

TEST_F(LayoutTest, ABlobIsWrittenOnce) {
  const auto digest = format::sha256(as_bytes("content"));
  EXPECT_TRUE(layout_.write_blob(digest, as_bytes("content")));
  EXPECT_FALSE(layout_.write_blob(digest, as_bytes("content")));
  EXPECT_TRUE(layout_.has_blob(digest, 7));
  EXPECT_EQ(as_text(layout_.map_blob(digest).bytes()), "content");
}

TEST_F(LayoutTest, ABlobOfAnotherSizeIsReplaced) {
  const auto digest = format::sha256(as_bytes("content"));
  write_text(layout_.blob_path(digest), "cont");
  EXPECT_FALSE(layout_.has_blob(digest, 7));
  EXPECT_TRUE(layout_.write_blob(digest, as_bytes("content")));
  EXPECT_EQ(text_of(layout_.blob_path(digest)), "content");
}

TEST_F(LayoutTest, AnEmptyBlobIsABlob) {
  const auto digest = format::sha256({});
  layout_.write_blob(digest, {});
  EXPECT_THAT(layout_.map_blob(digest).bytes(), IsEmpty());
}

TEST_F(LayoutTest, ManyWritersOfOneBlobLeaveOneWholeFile) {
  const std::string content(100'000, 'c');
  const auto digest = format::sha256(as_bytes(content));
  std::vector<std::thread> writers;
  for (int i = 0; i < 8; ++i) {
    writers.emplace_back([&] { layout_.write_blob(digest, as_bytes(content)); });
  }
  for (auto& writer : writers) writer.join();
  EXPECT_EQ(text_of(layout_.blob_path(digest)), content);
  EXPECT_EQ(std::distance(fs::directory_iterator(temp_ / "image/blobs/sha256"), {}), 1);
}

TEST_F(LayoutTest, AFailedWriteLeavesNoFileAndSaysWhy) {
  const auto digest = format::sha256(as_bytes("x"));
  fs::create_directory(layout_.blob_path(digest));
  EXPECT_THAT([&] { layout_.write_blob(digest, as_bytes("x")); },
              ThrowsMessage<Error>(HasSubstr(digest.hex())));
  EXPECT_EQ(std::distance(fs::directory_iterator(temp_ / "image/blobs/sha256"), {}), 1);
}

TEST_F(LayoutTest, AMissingBlobIsReportedWithItsDigestAndTheLayout) {
  const auto digest = format::sha256(as_bytes("absent"));
  EXPECT_THAT([&] { layout_.map_blob(digest); },
              ThrowsMessage<NotFoundError>(
                  AllOf(HasSubstr(digest.to_string()), HasSubstr(layout_.path().native()))));
  EXPECT_EQ(layout_.local_path(digest), "");
}

TEST_F(LayoutTest, SetTagWritesTheEntryThatTheRustProgramWrites) {
  layout_.set_tag("kinds", descriptor_of("manifest"));
  const auto host = format::host_platform();
  EXPECT_EQ(index(),
            R"({"manifests":[{"annotations":{"org.opencontainers.image.ref.name":"kinds"},)"
            R"("digest":")" +
                descriptor_of("manifest").digest.to_string() +
                R"(","mediaType":"application/vnd.oci.image.manifest.v1+json","platform":)"
                R"({"architecture":")" +
                host.architecture + R"(","os":")" + host.os +
                R"("},"size":8}],"schemaVersion":2})");
}

TEST_F(LayoutTest, SetTagMovesAnExistingTagAndKeepsTheOthers) {
  layout_.set_tag("one", descriptor_of("first"));
  layout_.set_tag("two", descriptor_of("first"));
  layout_.set_tag("one", descriptor_of("second"));
  EXPECT_THAT(layout_.tags(), ElementsAre("two", "one"));
  EXPECT_EQ(layout_.resolve("one").digest, descriptor_of("second").digest);
  EXPECT_EQ(layout_.resolve("two").digest, descriptor_of("first").digest);
}

TEST_F(LayoutTest, SetTagKeepsMembersThatItDoesNotKnow) {
  const auto foreign = nlohmann::json::parse(
      R"({"mediaType":"application/vnd.oci.image.manifest.v1+json","size":1,"urls":["x:y"],
          "digest":"sha256:0b913e3b7b08d34391fd61b80a99d1804d54fd6bfd41ee3e75e8647995c51362",
          "x-new":{"a":[1,2.5]}})");
  write_text(
      temp_ / "image/index.json",
      nlohmann::json{{"schemaVersion", 2}, {"x-top", true}, {"manifests", {foreign}}}.dump());
  layout_.set_tag("mine", descriptor_of("manifest"));
  const auto document = nlohmann::json::parse(index());
  EXPECT_EQ(document.at("x-top"), true);
  EXPECT_EQ(document.at("manifests").at(0), foreign);
}

TEST_F(LayoutTest, SetTagKeepsThePlatformOfAForeignImage) {
  auto manifest = descriptor_of("manifest");
  manifest.platform = format::Platform{"riscv64", "linux"};
  layout_.set_tag("riscv", manifest);
  EXPECT_EQ(layout_.resolve("riscv").platform, manifest.platform);
}

TEST_F(LayoutTest, ConcurrentSetTagLosesNoTag) {
  std::vector<std::thread> taggers;
  for (int i = 0; i < 8; ++i) {
    taggers.emplace_back([this, i] {
      Layout::open(temp_ / "image").set_tag("tag" + std::to_string(i), descriptor_of("manifest"));
    });
  }
  for (auto& tagger : taggers) tagger.join();
  EXPECT_EQ(layout_.tags().size(), 8U);
}

TEST_F(LayoutTest, SetTagRefusesATagThatJsonCannotHold) {
  EXPECT_THROW(layout_.set_tag("\xff", descriptor_of("manifest")), UsageError);
  EXPECT_THAT(layout_.tags(), IsEmpty());
}

TEST_F(LayoutTest, SetTagRefusesADocumentThatNestsWithoutEnd) {
  write_text(temp_ / "image/index.json", R"({"manifests":[],"x":)" + std::string(1'000'000, '[') +
                                             std::string(1'000'000, ']') + "}");
  EXPECT_THROW(layout_.set_tag("mine", descriptor_of("manifest")), CorruptError);
}

TEST_F(LayoutTest, AnIndexBeyondTheSizeLimitIsRefused) {
  write_text(temp_ / "image/index.json",
             R"({"manifests":[]})" + std::string(format::kMaxManifestSize, ' '));
  EXPECT_THROW(layout_.tags(), CorruptError);
}

TEST_F(LayoutTest, ResolveOfAnUnknownTagListsTheTagsThereAre) {
  layout_.set_tag("one", descriptor_of("manifest"));
  layout_.set_tag("two", descriptor_of("manifest"));
  EXPECT_THAT([&] { layout_.resolve("three"); },
              ThrowsMessage<NotFoundError>(AllOf(HasSubstr("'three'"), HasSubstr("one, two"))));
}

TEST_F(LayoutTest, ResolveWithoutATagTakesTheOnlyImage) {
  EXPECT_THROW(layout_.resolve(""), NotFoundError);
  layout_.set_tag("one", descriptor_of("manifest"));
  EXPECT_EQ(layout_.resolve("").digest, descriptor_of("manifest").digest);
  layout_.set_tag("two", descriptor_of("manifest"));
  EXPECT_THAT([&] { layout_.resolve(""); }, ThrowsMessage<NotFoundError>(HasSubstr("one, two")));
}

TEST_F(LayoutTest, ReadRefusesABlobOfAnotherSizeThanTheImageSays) {
  auto descriptor = descriptor_of("content");
  layout_.write_blob(descriptor.digest, as_bytes("content"));
  const auto read = [&] {
    return wait_for<Bytes>(
        [&](auto done) { layout_.read(descriptor, Freshness::kAny, std::move(done)); });
  };
  EXPECT_EQ(as_text(read()), "content");
  descriptor.size = 6;
  EXPECT_THROW(read(), CorruptError);
}

TEST_F(LayoutTest, SyncWorks) {
  EXPECT_NO_THROW(layout_.sync());
}

}  // namespace
}  // namespace puzzlefs::fetch
