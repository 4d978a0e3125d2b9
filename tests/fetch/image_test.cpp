#include "fetch/image.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <future>
#include <nlohmann/json.hpp>

#include "../support/metadata_blob.h"
#include "../support/scripted_server.h"
#include "../support/temp_dir.h"
#include "fetch/layout.h"
#include "format/error.h"
#include "format/metadata_writer.h"
#include "format/verity.h"

namespace puzzlefs::fetch {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

format::Descriptor describe(std::string_view media_type, ByteView content) {
  format::Descriptor descriptor;
  descriptor.media_type = media_type;
  descriptor.digest = format::sha256(content);
  descriptor.size = content.size();
  return descriptor;
}

/// An image of one file, `content`, in one chunk.
struct SmallImage {
  explicit SmallImage(std::string_view text) : content(text) {
    const auto chunk = describe(format::kFiledataType, as_bytes(content));
    piece = {.blob = chunk.digest, .offset = 0, .size = chunk.size, .compressed = false};
    format::InodeRecord root;
    root.ino = format::kRootInode;
    root.type = format::FileType::kDirectory;
    root.entries = {{format::InodeNumber{2}, "file"}};
    format::InodeRecord file;
    file.ino = format::InodeNumber{2};
    file.chunks = {piece};
    metadata = format::write_metadata({{root, file}}, {});
    manifest.config = format::empty_config();
    manifest.layers = {describe(format::kRootfsType, metadata), chunk};
    document = format::to_json_text(manifest);
  }

  format::Descriptor descriptor() const {
    return describe(format::kManifestType, as_bytes(document));
  }

  format::Digest verity() const { return format::verity_digest(as_bytes(document)); }

  std::string content;
  format::ChunkRef piece;
  Bytes metadata;
  format::Manifest manifest;
  std::string document;
};

std::string index_of(const std::vector<format::Descriptor>& entries) {
  nlohmann::json index{{"schemaVersion", 2}, {"mediaType", format::kIndexType}};
  for (const auto& entry : entries) index["manifests"].push_back(format::to_json(entry));
  return index.dump();
}

format::Descriptor for_platform(format::Descriptor entry, const format::Platform& platform) {
  entry.platform = platform;
  return entry;
}

const format::Platform kOther{"pdp11", "unix"};

std::string read(Image& image, const format::ChunkRef& piece) {
  const auto chunk =
      wait_for<ChunkData>([&](auto done) { image.chunks().read(piece, std::move(done)); });
  return std::string(as_text(*chunk));
}

class LayoutImageTest : public ::testing::Test {
 protected:
  void store(std::string_view blob) {
    layout_.write_blob(format::sha256(as_bytes(blob)), as_bytes(blob));
  }
  void store(const SmallImage& image) {
    store(image.content);
    store(as_text(image.metadata));
    store(image.document);
  }
  void tag_index(const std::string& index) {
    store(index);
    layout_.set_tag("tag", describe(format::kIndexType, as_bytes(index)));
  }
  std::unique_ptr<Image> open(const ImageOptions& options = {}) {
    return Image::open(runtime_, format::LayoutName{layout_.path(), "tag"}, options);
  }

  test::TempDir temp_;
  Layout layout_ = Layout::create(temp_ / "layout");
  const SmallImage image_{"content"};
  Runtime runtime_{2};
};

TEST_F(LayoutImageTest, OpensWithItsMetadataAndChunks) {
  store(image_);
  layout_.set_tag("tag", image_.descriptor());
  const auto image = open();
  EXPECT_EQ(as_text(image->manifest_document()), image_.document);
  EXPECT_EQ(image->manifest(), image_.manifest);
  EXPECT_EQ(image->name(),
            "oci:" + layout_.path().native() + ":tag@" + image_.descriptor().digest.to_string());
  const auto file = image->metadata().get(format::InodeNumber{2});
  EXPECT_EQ(read(*image, file.chunk(0)), "content");
}

TEST_F(LayoutImageTest, HasNoWholeFiles) {
  store(image_);
  layout_.set_tag("tag", image_.descriptor());
  EXPECT_EQ(open()->whole_files(), nullptr);
}

TEST_F(LayoutImageTest, RefusesAFalsifiedManifest) {
  store(image_);
  layout_.set_tag("tag", image_.descriptor());
  auto falsified = image_.document;
  falsified.back() = ' ';
  std::ofstream(layout_.blob_path(image_.descriptor().digest)) << falsified;
  EXPECT_THROW(open(), CorruptError);
}

TEST_F(LayoutImageTest, OpensByItsFsVerityDigest) {
  store(image_);
  tag_index(index_of({image_.descriptor()}));
  const auto image = open({.manifest_verity = image_.verity()});
  EXPECT_EQ(read(*image, image_.piece), "content");
  EXPECT_THAT([&] { open({.manifest_verity = format::Digest()}); },
              ThrowsMessage<CorruptError>(
                  AllOf(HasSubstr(image_.verity().hex()), HasSubstr(format::Digest().hex()))));
}

TEST_F(LayoutImageTest, HashesWhatTheKernelDoesNotVerify) {
  store(image_);
  layout_.set_tag("tag", image_.descriptor());
  const auto image = open({.manifest_verity = image_.verity()});
  std::ofstream(layout_.blob_path(image_.piece.blob)) << "CONTENT";
  EXPECT_THROW(read(*image, image_.piece), CorruptError);
}

TEST_F(LayoutImageTest, DoesNotOpenWithoutFsVerityWhereThatIsRequired) {
  store(image_);
  layout_.set_tag("tag", image_.descriptor());
  EXPECT_THAT([&] { open({.manifest_verity = image_.verity(), .require_fs_verity = true}); },
              ThrowsMessage<Error>(HasSubstr("puzzlefs enable-fs-verity")));
}

TEST_F(LayoutImageTest, RefusesFalsifiedMetadata) {
  store(image_);
  layout_.set_tag("tag", image_.descriptor());
  const auto path = layout_.blob_path(image_.manifest.layers[0].digest);
  std::ofstream(path) << std::string(image_.metadata.size(), '\0');
  EXPECT_THAT([&] { open(); }, ThrowsMessage<CorruptError>(HasSubstr(path.native())));
}

TEST_F(LayoutImageTest, RefusesAManifestOfAHostileSize) {
  auto hostile = image_.descriptor();
  hostile.size = format::kMaxManifestSize + 1;
  layout_.set_tag("tag", hostile);
  EXPECT_THROW(open(), CorruptError);
}

TEST_F(LayoutImageTest, SaysThatAnotherKindOfImageIsNoneOfOurs) {
  auto manifest = image_.manifest;
  manifest.layers[0].media_type = "application/vnd.oci.image.layer.v1.tar";
  const auto document = format::to_json_text(manifest);
  store(document);
  layout_.set_tag("tag", describe(format::kManifestType, as_bytes(document)));
  EXPECT_THAT([&] { open(); }, ThrowsMessage<Error>(HasSubstr("not a PuzzleFS image")));
}

TEST_F(LayoutImageTest, TakesTheManifestForThisMachineFromAnIndex) {
  store(image_);
  tag_index(index_of({for_platform(describe(format::kManifestType, as_bytes("other")), kOther),
                      for_platform(image_.descriptor(), format::host_platform())}));
  EXPECT_EQ(open()->manifest_digest(), image_.descriptor().digest);
}

TEST_F(LayoutImageTest, FollowsAnIndexInAnIndexAndNoFurther) {
  store(image_);
  const auto inner = index_of({image_.descriptor()});
  store(inner);
  const auto middle = index_of({describe(format::kIndexType, as_bytes(inner))});
  tag_index(middle);
  EXPECT_EQ(open()->manifest_digest(), image_.descriptor().digest);
  tag_index(index_of({describe(format::kIndexType, as_bytes(middle))}));
  EXPECT_THROW(open(), CorruptError);
}

TEST_F(LayoutImageTest, ListsThePlatformsWhenThereIsNoneForThisMachine) {
  tag_index(index_of({for_platform(image_.descriptor(), kOther)}));
  EXPECT_THAT([&] { open(); }, ThrowsMessage<NotFoundError>(HasSubstr("unix/pdp11")));
}

/// A repository of a registry, as far as reading needs it, which can be shut down.
class RegistryImageTest : public ::testing::Test {
 protected:
  RegistryImageTest() {
    std::ofstream(temp_ / "auth.json") << "{}";
    options_.cache_directory = temp_ / "cache";
    options_.registry.plain_http = true;
    wait_at_most(std::chrono::seconds(20));
    options_.registry.credentials = Credentials(temp_ / "auth.json");
    server_ = std::make_unique<test::ScriptedServer>(
        [this](const test::ServedRequest& request) { return answer(request); });
    name_ = format::parse_registry_name(server_->host() + "/repo:tag");
  }

  void wait_at_most(std::chrono::seconds time) {
    options_.open_deadline = time;
    options_.registry.deadline = time;
  }
  void shut_down() {
    server_.reset();
    wait_at_most(std::chrono::seconds(1));
  }

  void serve(const std::string& target, std::string_view media_type, std::string_view body) {
    const std::lock_guard lock(mutex_);
    served_[target] = {std::string(media_type), std::string(body)};
  }
  void serve_blob(std::string_view content) {
    serve("/v2/repo/blobs/" + format::sha256(as_bytes(content)).to_string(),
          "application/octet-stream", content);
  }
  void serve_manifest(const std::string& reference, std::string_view media_type,
                      std::string_view document) {
    serve("/v2/repo/manifests/" + reference, media_type, document);
    serve("/v2/repo/manifests/" + format::sha256(as_bytes(document)).to_string(), media_type,
          document);
  }
  void serve_image(const SmallImage& image) {
    serve_blob(image.content);
    serve_blob(as_text(image.metadata));
    serve_manifest("tag", format::kManifestType, image.document);
  }

  /// From now on answers begin and never end.
  void stall() {
    const std::lock_guard lock(mutex_);
    stalling_ = true;
  }

  std::unique_ptr<Image> open() { return Image::open(runtime_, name_, options_); }
  std::unique_ptr<Image> open(const format::Digest& digest) {
    auto name = name_;
    name.digest = digest;
    return Image::open(runtime_, name, options_);
  }

  test::TempDir temp_;
  ImageOptions options_;
  const SmallImage image_{"content"};
  format::RegistryName name_;
  std::mutex mutex_;  // guards the next two
  bool stalling_ = false;
  std::map<std::string, std::pair<std::string, std::string>> served_;
  std::unique_ptr<test::ScriptedServer> server_;
  Runtime runtime_{2};

 private:
  test::Reply answer(const test::ServedRequest& request) {
    const std::lock_guard lock(mutex_);
    test::Reply reply;
    if (request.target == "/v2/") return reply;
    const auto found = served_.find(request.target);
    if (found == served_.end()) {
      reply.status = 404;
      return reply;
    }
    reply.headers = {{"Content-Type", found->second.first}};
    reply.body = found->second.second;
    if (stalling_) {
      reply.ending = test::Reply::Ending::kStall;
      reply.body_sent = 1;
    }
    return reply;
  }
};

TEST_F(RegistryImageTest, OpensWithItsMetadataAndChunks) {
  serve_image(image_);
  const auto image = open();
  EXPECT_EQ(image->manifest_digest(), image_.descriptor().digest);
  EXPECT_EQ(image->name(), server_->host() + "/repo:tag@" + image->manifest_digest().to_string());
  EXPECT_EQ(read(*image, image_.piece), "content");
}

TEST_F(RegistryImageTest, HasWholeFiles) {
  serve_image(image_);
  const auto image = open();
  ASSERT_NE(image->whole_files(), nullptr);
  const auto file = wait_for<FileDescriptor>(
      [&](auto done) { image->whole_files()->open({image_.piece}, std::move(done)); });
  EXPECT_EQ(as_text(read_file(file, "the file", 100)), image_.content);
}

TEST_F(RegistryImageTest, OpensByItsFsVerityDigest) {
  serve_image(image_);
  options_.manifest_verity = image_.verity();
  EXPECT_EQ(read(*open(), image_.piece), "content");
  options_.manifest_verity = format::Digest();
  EXPECT_THAT([&] { open(); }, ThrowsMessage<CorruptError>(HasSubstr(image_.verity().hex())));
}

TEST_F(RegistryImageTest, DoesNotRememberAnImageOfAnotherFsVerityDigest) {
  serve_image(image_);
  options_.manifest_verity = format::Digest();
  EXPECT_THROW(open(), CorruptError);
  shut_down();
  options_.manifest_verity.reset();
  EXPECT_THROW(open(), UnavailableError);
}

TEST_F(RegistryImageTest, CannotRequireFsVerity) {
  serve_image(image_);
  options_.manifest_verity = image_.verity();
  options_.require_fs_verity = true;
  EXPECT_THAT([&] { open(); }, ThrowsMessage<UsageError>(HasSubstr("Pull the image")));
}

TEST_F(RegistryImageTest, OpeningFetchesNoChunk) {
  serve_image(image_);
  open();
  EXPECT_EQ(server_->count("GET", image_.piece.blob.to_string()), 0U);
}

TEST_F(RegistryImageTest, ByDigestAsksTheRegistryNothingThatIsCached) {
  serve_image(image_);
  read(*open(image_.descriptor().digest), image_.piece);
  const auto requests = server_->requests().size();
  EXPECT_EQ(read(*open(image_.descriptor().digest), image_.piece), "content");
  EXPECT_EQ(server_->requests().size(), requests);
}

TEST_F(RegistryImageTest, OpensWhatTheTagStoodForLastWhenTheRegistryIsDown) {
  serve_image(image_);
  read(*open(), image_.piece);
  shut_down();
  const auto image = open();
  EXPECT_EQ(image->manifest_digest(), image_.descriptor().digest);
  EXPECT_EQ(read(*image, image_.piece), "content");
}

TEST_F(RegistryImageTest, DoesNotTakeWhatTheTagStoodForLastIfToldSo) {
  serve_image(image_);
  open();
  shut_down();
  options_.falls_back = false;
  EXPECT_THROW(open(), UnavailableError);
}

TEST_F(RegistryImageTest, APinStandsInForAnIndexThatIsLost) {
  serve_image(image_);
  open()->cache()->pins().add(
      {name_.to_string(), image_.descriptor().digest, image_.descriptor().digest});
  std::filesystem::remove_all(temp_ / "cache/index");
  shut_down();
  EXPECT_EQ(open()->manifest_digest(), image_.descriptor().digest);
}

TEST_F(RegistryImageTest, DoesNotRememberAnImageThatCouldNotBeOpened) {
  serve_image(image_);
  open();
  const SmallImage incomplete("newer content");
  serve_manifest("tag", format::kManifestType, incomplete.document);  // and not its metadata
  EXPECT_THROW(open(), NotFoundError);
  shut_down();
  EXPECT_EQ(open()->manifest_digest(), image_.descriptor().digest);
}

TEST_F(RegistryImageTest, FailsWhenTheRegistryIsDownAndNothingIsRemembered) {
  shut_down();
  EXPECT_THROW(open(), UnavailableError);
}

TEST_F(RegistryImageTest, ATagThatIsGoneIsNotReplacedByWhatItStoodFor) {
  serve_image(image_);
  open();
  {
    const std::lock_guard lock(mutex_);
    served_.clear();
  }
  EXPECT_THROW(open(), NotFoundError);
}

TEST_F(RegistryImageTest, TakesTheManifestForThisMachineFromAnIndexAndRemembersIt) {
  serve_image(image_);
  const auto index = index_of({for_platform(describe(format::kManifestType, as_bytes("x")), kOther),
                               for_platform(image_.descriptor(), format::host_platform())});
  serve_manifest("tag", format::kIndexType, index);
  EXPECT_EQ(open()->manifest_digest(), image_.descriptor().digest);
  shut_down();
  EXPECT_EQ(open()->manifest_digest(), image_.descriptor().digest);
}

TEST_F(RegistryImageTest, RefusesAFalsifiedManifest) {
  serve_image(image_);
  const auto digest = image_.descriptor().digest;
  serve("/v2/repo/manifests/" + digest.to_string(), format::kManifestType, image_.document + " ");
  EXPECT_THROW(open(digest), CorruptError);
}

TEST_F(RegistryImageTest, RefusesAFalsifiedChunkAndNamesIt) {
  serve_image(image_);
  const auto digest = image_.piece.blob.to_string();
  serve("/v2/repo/blobs/" + digest, "application/octet-stream", "CONTENT");
  const auto image = open();
  EXPECT_THAT([&] { read(*image, image_.piece); },
              ThrowsMessage<CorruptError>(AllOf(HasSubstr(digest), HasSubstr(server_->host()))));
}

TEST_F(RegistryImageTest, ClosingFailsReadsThatAreUnderWayAndToCome) {
  serve_image(image_);
  options_.registry.deadline = std::nullopt;  // wait for the registry for ever
  const auto image = open();
  stall();
  const auto answered = server_->requests().size();
  std::promise<Outcome<ChunkData>> promise;
  image->chunks().read(image_.piece,
                       [&](Outcome<ChunkData> outcome) { promise.set_value(std::move(outcome)); });
  server_->wait_for_requests(answered + 1);
  image->close();
  auto outcome = promise.get_future().get();
  EXPECT_THROW(outcome.value(), UnavailableError);
  EXPECT_THROW(read(*image, image_.piece), UnavailableError);
}

TEST_F(RegistryImageTest, ClosingFailsReadsThatWaitForARegistryThatIsDown) {
  serve_image(image_);
  options_.registry.deadline = std::nullopt;
  const auto image = open();
  server_.reset();
  std::promise<Outcome<ChunkData>> promise;
  image->chunks().read(image_.piece,
                       [&](Outcome<ChunkData> outcome) { promise.set_value(std::move(outcome)); });
  image->close();
  auto outcome = promise.get_future().get();
  EXPECT_THROW(outcome.value(), UnavailableError);
}

TEST_F(RegistryImageTest, WorksWithoutAUsableCache) {
  std::ofstream(temp_ / "file") << "";
  options_.cache_directory = temp_ / "file/cache";
  serve_image(image_);
  const auto image = open();
  EXPECT_EQ(read(*image, image_.piece), "content");
  EXPECT_EQ(image->whole_files(), nullptr);
}

}  // namespace
}  // namespace puzzlefs::fetch
