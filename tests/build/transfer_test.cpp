// Pushing to and pulling from a real registry, and a scripted one where it must misbehave.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <thread>

#include "../support/registry_process.h"
#include "../support/scripted_server.h"
#include "transfer_fixture.h"

namespace puzzlefs::build {
namespace {

using test::RegistryProcess;
using test::Reply;
using test::ServedRequest;
using testing::HasSubstr;

TEST_F(TransferTest, PushAndPullGiveTheSameImage) {
  const RegistryProcess registry;
  const auto manifest = add_image(layout_, "1", {"one", "two", "one"});
  const auto pushed = push(registry.host(), "1");
  EXPECT_EQ(pushed.manifest.digest, manifest.digest);
  EXPECT_EQ(pushed.moved_blobs, 4U);  // metadata, two chunks, config

  const auto copy = fetch::Layout::create(directory_ / "copy");
  const auto pulled = pull(registry.host(), "1", copy);
  EXPECT_EQ(pulled.moved_blobs, 4U);
  EXPECT_EQ(pulled.moved_bytes, pushed.moved_bytes);
  EXPECT_EQ(copy.resolve("1").digest, manifest.digest);
  for (const auto* chunk : {"one", "two"}) {
    EXPECT_EQ(as_text(copy.map_blob(format::sha256(as_bytes(chunk))).bytes()), chunk);
  }
}

// The Rust puzzlefs gives compressed chunks the size that they have uncompressed.
TEST_F(TransferTest, PushRefusesSizesThatNoClientWouldTake) {
  const RegistryProcess registry;
  const auto manifest = add_image(layout_, "1", {"chunk"});
  std::string document(as_text(layout_.map_blob(manifest.digest).bytes()));
  const std::string_view size = "\"size\":5}";
  ASSERT_NE(document.find(size), std::string::npos) << document;
  document.replace(document.find(size), size.size(), "\"size\":9}");
  auto wrong = manifest;
  wrong.digest = format::sha256(as_bytes(document));
  layout_.write_blob(wrong.digest, as_bytes(document));
  layout_.set_tag("1", wrong);
  EXPECT_THAT(message_of([&] { push(registry.host(), "1"); }),
              AllOf(HasSubstr("has 9 bytes; it has 5"), HasSubstr("Rust")));
}

TEST_F(TransferTest, PushingAgainUploadsNothing) {
  const RegistryProcess registry;
  add_image(layout_, "1", {"one", "two"});
  push(registry.host(), "1");
  EXPECT_EQ(registry.count("HEAD", 4), 4U);
  EXPECT_EQ(registry.count("POST", 4), 4U);
  EXPECT_EQ(registry.count("PUT", 5), 5U);  // the manifest too
  const auto again = push(registry.host(), "1");
  EXPECT_EQ(again.moved_blobs, 0U);
  EXPECT_EQ(again.present_blobs, 4U);
  EXPECT_EQ(registry.count("HEAD", 4), 4U);
  EXPECT_EQ(registry.count("POST", 4), 4U);
  EXPECT_EQ(registry.count("PUT", 5), 5U);
}

TEST_F(TransferTest, PushUploadsOnlyWhatChangedAndAsksOnlyForThat) {
  const RegistryProcess registry;
  add_image(layout_, "1", {"one", "two", "three"});
  push(registry.host(), "1");
  EXPECT_EQ(registry.count("HEAD", 5), 5U);
  add_image(layout_, "1", {"one", "2", "three"});
  const auto result = push(registry.host(), "1");
  EXPECT_EQ(result.moved_blobs, 1U);
  EXPECT_EQ(result.moved_bytes, 1U);
  EXPECT_EQ(registry.count("HEAD", 6), 6U);
}

TEST_F(TransferTest, AnotherTagSharesTheBlobsThatAreThere) {
  const RegistryProcess registry;
  add_image(layout_, "1", {"one", "two"});
  push(registry.host(), "1");
  const auto result = push(registry.host(), "1", "2");
  EXPECT_EQ(result.moved_blobs, 0U);
  const auto copy = fetch::Layout::create(directory_ / "copy");
  EXPECT_EQ(pull(registry.host(), "2", copy).manifest.digest, layout_.resolve("1").digest);
}

TEST_F(TransferTest, PullGetsOnlyWhatTheLayoutLacks) {
  const RegistryProcess registry;
  add_image(layout_, "1", {"one", "two"});
  push(registry.host(), "1");
  const auto copy = fetch::Layout::create(directory_ / "copy");
  add_image(copy, "other", {"one"});
  const auto result = pull(registry.host(), "1", copy);
  EXPECT_EQ(result.present_blobs, 2U);  // "one" and the config
  EXPECT_EQ(result.moved_blobs, 2U);
}

TEST_F(TransferTest, ProgressEndsWithEverything) {
  const RegistryProcess process;
  std::vector<std::string> chunks;
  for (int i = 0; i < 50; ++i) chunks.push_back("chunk " + std::to_string(i));
  add_image(layout_, "1", chunks);
  const auto caller = std::this_thread::get_id();
  std::vector<TransferProgress> steps;
  const auto result =
      push(process.host(), "1", {}, {.on_progress = [&](const TransferProgress& progress) {
             EXPECT_EQ(std::this_thread::get_id(), caller);
             steps.push_back(progress);
           }});
  ASSERT_EQ(steps.size(), 52U);
  EXPECT_EQ(steps.back().blobs_done, 52U);
  EXPECT_EQ(steps.back().blobs_total, 52U);
  EXPECT_EQ(steps.back().bytes_done, steps.back().bytes_total);
  EXPECT_EQ(steps.back().moved_bytes, steps.back().bytes_total);
  EXPECT_EQ(result.moved_bytes, steps.back().bytes_total);
}

TEST_F(TransferTest, ABlobThatIsBrokenInTheLayoutIsNotPushed) {
  const RegistryProcess registry;
  add_image(layout_, "1", {"one", "two"});
  const auto file = layout_.blob_path(format::sha256(as_bytes("two"))).string();
  std::filesystem::permissions(file, std::filesystem::perms::owner_all);
  std::ofstream(file) << "ywo";
  EXPECT_THROW(push(registry.host(), "1"), CorruptError);
  EXPECT_THAT(message_of([&] { push(registry.host(), "1"); }), HasSubstr(file));
  EXPECT_THROW(pull(registry.host(), "1", layout_), NotFoundError);  // no manifest was pushed
}

TEST_F(TransferTest, ABlobThatIsBrokenInTheRegistryIsNotPulled) {
  const RegistryProcess registry;
  add_image(layout_, "1", {"one", "two"});
  push(registry.host(), "1");
  const auto digest = format::sha256(as_bytes("two"));
  std::ofstream(registry.blob_file(digest.hex())) << "ywo";
  const auto copy = fetch::Layout::create(directory_ / "copy");
  EXPECT_THAT(message_of([&] { pull(registry.host(), "1", copy); }), HasSubstr(digest.to_string()));
  EXPECT_FALSE(copy.has_blob(digest, 3));
  EXPECT_TRUE(copy.tags().empty());
}

TEST_F(TransferTest, PullReplacesABlobThatIsBrokenInTheLayout) {
  const RegistryProcess registry;
  add_image(layout_, "1", {"one", "two"});
  push(registry.host(), "1");
  const auto digest = format::sha256(as_bytes("two"));
  std::ofstream(layout_.blob_path(digest)) << "ywo";
  EXPECT_EQ(pull(registry.host(), "1", layout_).moved_blobs, 1U);
  EXPECT_EQ(as_text(layout_.map_blob(digest).bytes()), "two");
}

TEST_F(TransferTest, PullLeavesFilesAloneThatAreRight) {
  const RegistryProcess registry;
  const auto manifest = layout_.blob_path(add_image(layout_, "1", {"one"}).digest);
  push(registry.host(), "1");
  // A second name shows whether it is still the same file.
  std::filesystem::create_hard_link(manifest, directory_ / "manifest");
  pull(registry.host(), "1", layout_);
  EXPECT_TRUE(std::filesystem::equivalent(manifest, directory_ / "manifest"));
}

TEST_F(TransferTest, AManifestThatNoRegistryTakesIsRefusedBeforeAnyUpload) {
  test::ScriptedServer server([](const ServedRequest&) { return Reply{}; });
  std::vector<std::string> chunks;
  for (int i = 0; i < 32'000; ++i) chunks.push_back("0");
  add_image(layout_, "1", chunks);
  ASSERT_GT(layout_.resolve("1").size, format::kMaxManifestSize);
  EXPECT_THAT(message_of([&] { push(server.host(), "1"); }), HasSubstr("no more than 4194304"));
  EXPECT_TRUE(server.requests().empty());
}

TEST_F(TransferTest, TheFirstFailureEndsAPush) {
  test::ScriptedServer server([](const ServedRequest& request) {
    const bool known = request.method == "GET" && request.target == "/v2/";
    return Reply{.status = known ? 200 : request.method == "POST" ? 403 : 404};
  });
  std::vector<std::string> chunks;
  for (int i = 0; i < 500; ++i) chunks.push_back("chunk " + std::to_string(i));
  add_image(layout_, "1", chunks);
  EXPECT_THAT(message_of([&] { push(server.host(), "1"); }), HasSubstr("403 Forbidden"));
  EXPECT_LT(server.count("POST", "/uploads/"), 100U);
  EXPECT_EQ(server.count("PUT", "/manifests/"), 0U);
}

/// A registry that serves the blobs of a layout, and an index of images under the tag "index".
class IndexTest : public TransferTest {
 protected:
  Reply serve(const ServedRequest& request) const {
    if (request.target == "/v2/") return {};
    if (request.target.ends_with("/manifests/index")) {
      return {.headers = {{"Content-Type", std::string(format::kIndexType)}}, .body = index_};
    }
    const auto digest =
        format::Digest::parse(request.target.substr(request.target.find("sha256:")));
    Reply reply{.body = std::string(as_text(layout_.map_blob(digest).bytes()))};
    if (request.target.find("/manifests/") != std::string::npos) {
      reply.headers = {{"Content-Type", std::string(format::kManifestType)}};
    }
    return reply;
  }

  void offer(const format::Descriptor& manifest, const std::string& architecture) {
    index_ = R"({"schemaVersion":2,"mediaType":")" + std::string(format::kIndexType) +
             R"(","manifests":[{"mediaType":")" + std::string(format::kManifestType) +
             R"(","digest":")" + manifest.digest.to_string() + R"(","size":)" +
             std::to_string(manifest.size) + R"(,"platform":{"os":"linux","architecture":")" +
             architecture + "\"}}]}";
  }

  std::string index_;
  test::ScriptedServer server_{[this](const ServedRequest& request) { return serve(request); }};
};

TEST_F(IndexTest, PullChoosesTheImageForThisMachine) {
  const auto manifest = add_image(layout_, "1", {"one"});
  offer(manifest, format::host_platform().architecture);
  const auto copy = fetch::Layout::create(directory_ / "copy");
  EXPECT_EQ(pull(server_.host(), "index", copy).manifest.digest, manifest.digest);
  EXPECT_EQ(copy.resolve("index").digest, manifest.digest);
}

TEST_F(IndexTest, PullAsksForNoBlobOfAnImageWithAHostileSize) {
  auto manifest = format::parse_manifest(
      layout_.map_blob(add_image(layout_, "1", {"one"}).digest).bytes(), "manifest");
  manifest.layers.back().size = std::uint64_t{1} << 32;
  const auto document = format::to_json_text(manifest);
  format::Descriptor descriptor;
  descriptor.digest = format::sha256(as_bytes(document));
  descriptor.size = document.size();
  layout_.write_blob(descriptor.digest, as_bytes(document));
  offer(descriptor, format::host_platform().architecture);
  const auto copy = fetch::Layout::create(directory_ / "copy");
  EXPECT_THAT(message_of([&] { pull(server_.host(), "index", copy); }),
              HasSubstr("has 4294967296 bytes"));
  EXPECT_EQ(server_.count("GET", "/blobs/"), 0U);
}

TEST_F(IndexTest, PullSaysWhenThereIsNoneForThisMachine) {
  offer(add_image(layout_, "1", {"one"}), "pdp11");
  const auto copy = fetch::Layout::create(directory_ / "copy");
  EXPECT_THAT(message_of([&] { pull(server_.host(), "index", copy); }),
              HasSubstr("has no image for linux/"));
}

}  // namespace
}  // namespace puzzlefs::build
