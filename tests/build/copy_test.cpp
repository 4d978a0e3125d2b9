// Copying between registries and layouts: what is moved, what is mounted, indexes and dry runs.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <boost/algorithm/string/predicate.hpp>
#include <fstream>

#include "../support/registry_process.h"
#include "../support/scripted_server.h"
#include "transfer_fixture.h"

namespace puzzlefs::build {
namespace {

using test::RegistryProcess;
using test::Reply;
using test::ScriptedServer;
using test::ServedRequest;
using testing::HasSubstr;

class CopyTest : public TransferTest {
 protected:
  TransferResult copy(fetch::Registry& from, fetch::Registry& to,
                      const TransferOptions& options = {}) {
    RegistrySource source(runtime_, from);
    RegistryTarget target(to);
    return transfer(source, target, options);
  }
  TransferResult copy_layout(const std::string& tag, const std::filesystem::path& to,
                             const TransferOptions& options = {}) {
    LayoutSource source(runtime_, {layout_.path(), tag});
    LayoutTarget target(runtime_, {to, tag});
    return transfer(source, target, options);
  }
  format::Descriptor add_two_platforms() {
    return add_index(layout_, "index",
                     {for_platform(add_image(layout_, "1", {"one", "both"}), "linux/riscv64"),
                      for_platform(add_image(layout_, "2", {"two", "both"}), "linux/arm/v7")});
  }
};

TEST_F(CopyTest, BetweenRegistriesMovesOnlyWhatTheSecondLacks) {
  const RegistryProcess first;
  const RegistryProcess second;
  add_image(layout_, "old", {"one", "two"});
  const auto manifest = add_image(layout_, "new", {"one", "2"});
  push(first.host(), "new");
  push(second.host(), "old");
  const auto from = connect(first.host(), "new");
  const auto to = connect(second.host(), "new");
  const auto result = copy(*from, *to);
  EXPECT_EQ(result.manifest.digest, manifest.digest);
  EXPECT_EQ(result.moved_blobs, 2U);    // the metadata and "2"
  EXPECT_EQ(result.present_blobs, 2U);  // "one" and the config
  const auto copied = fetch::Layout::create(directory_ / "copy");
  EXPECT_EQ(pull(second.host(), "new", copied).manifest.digest, manifest.digest);
}

TEST_F(CopyTest, BetweenRepositoriesOfARegistryReadsNoBlob) {
  const RegistryProcess registry;
  const auto manifest = add_image(layout_, "1", {"one", "two"});
  push(registry.host(), "1");
  const auto puts = registry.count("PUT", 5);
  const auto from = connect(registry.host(), "1");
  const auto to = connect(registry.host(), "1", "other/app", "team/app");
  const auto result = copy(*from, *to);
  EXPECT_EQ(result.mounted_blobs, 4U);
  EXPECT_EQ(result.mounted_bytes, 21U);
  EXPECT_EQ(result.moved_blobs, 0U);
  EXPECT_EQ(registry.count("PUT", puts + 1), puts + 1);  // the manifest
  LayoutTarget target(runtime_, {directory_ / "copy", "1"});
  const auto copied = connect(registry.host(), "1", "other/app");
  RegistrySource source(runtime_, *copied);
  EXPECT_EQ(transfer(source, target, {}).manifest.digest, manifest.digest);
}

TEST_F(CopyTest, BetweenLayoutsGivesTheSameImage) {
  const auto manifest = add_image(layout_, "1", {"one", "two"});
  const auto result = copy_layout("1", directory_ / "copy");
  EXPECT_EQ(result.moved_blobs, 4U);
  const auto copied = fetch::Layout::open(directory_ / "copy");
  EXPECT_EQ(copied.resolve("1").digest, manifest.digest);
  EXPECT_EQ(as_text(copied.map_blob(format::sha256(as_bytes("two"))).bytes()), "two");
  EXPECT_EQ(copy_layout("1", directory_ / "copy").present_blobs, 4U);
}

TEST_F(CopyTest, ABlobThatIsBrokenInALayoutIsNotCopiedToAnother) {
  add_image(layout_, "1", {"one"});
  std::ofstream(layout_.blob_path(format::sha256(as_bytes("one")))) << "eno";
  EXPECT_THROW(copy_layout("1", directory_ / "copy"), CorruptError);
  EXPECT_TRUE(fetch::Layout::open(directory_ / "copy").tags().empty());
}

TEST_F(CopyTest, AnIndexGoesThereAndBackWhole) {
  const RegistryProcess registry;
  const auto index = add_two_platforms();
  const auto pushed = push(registry.host(), "index");
  EXPECT_EQ(pushed.manifest.digest, index.digest);
  EXPECT_EQ(pushed.moved_blobs, 6U);  // two of metadata, three chunks, one config
  const auto pulled = pull(registry.host(), "index", directory_ / "copy", {});
  EXPECT_EQ(pulled.moved_blobs, 6U);
  const auto copied = fetch::Layout::open(directory_ / "copy");
  EXPECT_EQ(copied.resolve("index").digest, index.digest);
  for (const auto* tag : {"1", "2"}) {
    const auto manifest = layout_.resolve(tag);
    EXPECT_TRUE(copied.has_blob(manifest.digest, manifest.size)) << tag;
  }
}

TEST_F(CopyTest, AnIndexThatChangesInOneImageIsNotAskedAboutTheOther) {
  const RegistryProcess registry;
  add_two_platforms();
  push(registry.host(), "index");
  const auto heads = registry.count("HEAD", 6);
  const auto puts = registry.count("PUT", 9);
  add_index(layout_, "index",
            {for_platform(layout_.resolve("1"), "linux/riscv64"),
             for_platform(add_image(layout_, "2", {"2", "both"}), "linux/arm/v7")});
  EXPECT_EQ(push(registry.host(), "index").moved_blobs, 1U);
  EXPECT_EQ(registry.count("HEAD", heads + 1), heads + 1);
  EXPECT_EQ(registry.count("PUT", puts + 3), puts + 3);  // the chunk, its manifest and the index
}

TEST_F(CopyTest, APlatformPicksOneImageOfAnIndex) {
  const RegistryProcess registry;
  add_two_platforms();
  push(registry.host(), "index");
  const auto result = pull(registry.host(), "index", directory_ / "copy",
                           {.platform = format::parse_platform("linux/arm/v7")});
  EXPECT_EQ(result.manifest.digest, layout_.resolve("2").digest);
  const auto copied = fetch::Layout::open(directory_ / "copy").resolve("index");
  EXPECT_EQ(copied.digest, layout_.resolve("2").digest);
  EXPECT_EQ(copied.platform, format::parse_platform("linux/arm/v7"));
  EXPECT_THAT(message_of([&] {
                pull(registry.host(), "index", directory_ / "copy",
                     {.platform = format::parse_platform("linux/arm/v6")});
              }),
              HasSubstr("has no image for linux/arm/v6. It has: linux/riscv64, linux/arm/v7."));
}

TEST_F(CopyTest, AManifestThatIsNamedTwiceIsMovedOnce) {
  const RegistryProcess registry;
  const auto image = add_image(layout_, "1", {"one"});
  const auto inner = add_index(layout_, "inner", {image, image});
  add_index(layout_, "index", {image, inner, image});
  push(registry.host(), "index");
  EXPECT_EQ(registry.count("PUT", 6), 6U);  // three blobs, the manifest and two indexes
  const auto deeper = add_index(layout_, "deeper", {add_index(layout_, "index", {inner})});
  EXPECT_THAT(message_of([&] { push(registry.host(), "deeper"); }), HasSubstr("in an index"));
}

TEST_F(CopyTest, AnIndexOfTooManyImagesIsRefused) {
  std::vector<format::Descriptor> images;
  for (std::size_t i = 0; i <= kMaxDocuments; ++i) {
    images.push_back(add_image(layout_, "1", {std::to_string(i)}));
  }
  add_index(layout_, "index", images);
  EXPECT_THAT(message_of([&] { copy_layout("index", directory_ / "copy"); }),
              HasSubstr("--platform"));
  EXPECT_FALSE(std::filesystem::exists(directory_ / "copy"));
}

TEST_F(CopyTest, AnImageOfAnotherKindIsCopiedButNotPulled) {
  const RegistryProcess registry;
  format::Manifest manifest;
  manifest.config =
      add_blob(layout_, "{\"os\":\"linux\"}", "application/vnd.oci.image.config.v1+json");
  manifest.layers = {add_blob(layout_, "layer", "application/vnd.oci.image.layer.v1.tar")};
  layout_.set_tag("1", add_blob(layout_, format::to_json_text(manifest), format::kManifestType));
  EXPECT_EQ(push(registry.host(), "1").moved_blobs, 2U);
  const auto to = connect(registry.host(), "2");
  EXPECT_EQ(copy(*connect(registry.host(), "1"), *to).present_blobs, 2U);
  const auto copied = fetch::Layout::create(directory_ / "copy");
  EXPECT_THAT(message_of([&] { pull(registry.host(), "2", copied); }),
              HasSubstr("is not a PuzzleFS image"));
}

TEST_F(CopyTest, ADryRunOnlyCounts) {
  const RegistryProcess registry;
  add_image(layout_, "1", {"one", "two"});
  const auto planned = push(registry.host(), "1", {}, {.dry_run = true});
  EXPECT_EQ(planned.moved_blobs, 4U);
  EXPECT_EQ(registry.count("HEAD", 4), 4U);
  EXPECT_EQ(registry.count("POST", 0) + registry.count("PUT", 0), 0U);

  push(registry.host(), "1");
  const auto pulled = pull(registry.host(), "1", directory_ / "copy", {.dry_run = true});
  EXPECT_EQ(pulled.moved_blobs, 4U);
  EXPECT_FALSE(std::filesystem::exists(directory_ / "copy"));

  const auto there = fetch::Layout::create(directory_ / "there");
  add_image(there, "other", {"one"});
  EXPECT_EQ(pull(registry.host(), "1", there.path(), {.dry_run = true}).present_blobs, 2U);
  EXPECT_EQ(there.tags(), std::vector<std::string>{"other"});
  EXPECT_FALSE(there.has_blob(format::sha256(as_bytes("two")), 3));
}

TEST_F(CopyTest, AnotherDigestThanTheTargetsNameHasIsRefusedBeforeAnythingMoves) {
  const RegistryProcess registry;
  const auto digest = add_image(layout_, "1", {"one"}).digest.to_string();
  const auto other = "sha256:" + std::string(64, '0');
  const auto push_all = [&] { push(registry.host(), "1", "1@" + other); };
  EXPECT_THROW(push_all(), UsageError);
  EXPECT_THAT(message_of(push_all),
              HasSubstr("The image's digest is " + digest + ", not " + other));
  EXPECT_EQ(registry.count("HEAD", 0) + registry.count("POST", 0) + registry.count("PUT", 0), 0U);
}

TEST_F(CopyTest, ATagBesidesTheDigestIsSet) {
  const RegistryProcess registry;
  const auto digest = add_image(layout_, "1", {"one"}).digest;
  const auto copied = fetch::Layout::create(directory_ / "copy");
  push(registry.host(), "1", "other");  // by its digest it is there, whole
  EXPECT_EQ(push(registry.host(), "1", "tagged@" + digest.to_string()).present_blobs, 3U);
  EXPECT_EQ(pull(registry.host(), "tagged", copied).manifest.digest, digest);
}

TEST_F(CopyTest, ADigestAloneIsPutAsSuch) {
  const RegistryProcess registry;
  const auto digest = add_image(layout_, "1", {"one"}).digest;
  const auto name = registry.host() + "/team/app@" + digest.to_string();
  fetch::Registry to(client_, format::parse_registry_name(name), fetch::Registry::Access::kPush,
                     {});
  LayoutSource source(runtime_, {layout_.path(), "1"});
  RegistryTarget target(to);
  EXPECT_EQ(transfer(source, target, {}).moved_blobs, 3U);
  EXPECT_EQ(transfer(source, target, {}).present_blobs, 3U);
  EXPECT_EQ(RegistrySource(runtime_, to).top().descriptor.digest, digest);
}

/// A registry that has an image in "team/app", and answers requests to mount as a test says.
class MountTest : public CopyTest {
 protected:
  MountTest() { use_image({"one", "two"}); }

  void use_image(const std::vector<std::string>& chunks) {
    const auto manifest = add_image(layout_, "1", chunks);
    manifest_ = as_text(layout_.map_blob(manifest.digest).bytes());
  }

  Reply serve(const ServedRequest& request) {
    const auto has = [&](std::string_view part) {
      return request.target.find(part) != std::string::npos;
    };
    if (request.target.starts_with("/token")) return {.body = R"({"token":"t"})"};
    if (request.target == "/v2/") {
      if (!wants_token_) return {};
      return {.status = 401,
              .headers = {{"WWW-Authenticate", "Bearer realm=\"http://" + request.header("host") +
                                                   "/token\",service=\"s\""}}};
    }
    if (has("?mount=")) return mount_reply_;
    if (request.method == "POST") {
      return {.status = 202, .headers = {{"Location", "/v2/other/app/blobs/uploads/plain"}}};
    }
    if (request.method == "PUT") return {.status = 201};
    if (request.target == "/v2/team/app/manifests/1") {
      return {.headers = {{"Content-Type", std::string(format::kManifestType)}}, .body = manifest_};
    }
    if (request.method == "GET" && has("/team/app/blobs/")) {
      const auto digest =
          format::Digest::parse(request.target.substr(request.target.find("sha256:")));
      return {.body = std::string(as_text(layout_.map_blob(digest).bytes()))};
    }
    return {.status = 404};
  }
  TransferResult copy_across(const TransferOptions& options = {}) {
    const auto from = connect(server_.host(), "1");
    const auto to = connect(server_.host(), "1", "other/app", "team/app");
    return copy(*from, *to, options);
  }

  std::string manifest_;
  Reply mount_reply_{.status = 201};
  bool wants_token_ = false;
  ScriptedServer server_{[this](const ServedRequest& request) { return serve(request); }};
};

TEST_F(MountTest, WhatIsMountedIsNotRead) {
  const auto result = copy_across();
  EXPECT_EQ(result.mounted_blobs, 4U);
  EXPECT_EQ(server_.count("POST", "/v2/other/app/blobs/uploads/?mount=sha256:"), 4U);
  EXPECT_EQ(server_.count("POST", "&from=team%2Fapp"), 4U);
  EXPECT_EQ(server_.count("POST", ""), 4U);
  EXPECT_EQ(server_.count("GET", "/blobs/"), 0U);
  EXPECT_EQ(server_.count("PUT", ""), 1U);
}

TEST_F(MountTest, AnUploadThatIsBegunInsteadIsGoneOnWith) {
  mount_reply_ = {.status = 202, .headers = {{"Location", "/v2/other/app/blobs/uploads/begun"}}};
  const auto result = copy_across();
  EXPECT_EQ(result.moved_blobs, 4U);
  EXPECT_EQ(result.mounted_blobs, 0U);
  EXPECT_EQ(server_.count("POST", ""), 4U);
  EXPECT_EQ(server_.count("PUT", "/uploads/begun?digest=sha256:"), 4U);
}

TEST_F(MountTest, ARegistryThatRefusesIsUploadedToAndNotAskedForEver) {
  std::vector<std::string> chunks;
  for (int i = 0; i < 30; ++i) chunks.push_back("chunk " + std::to_string(i));
  use_image(chunks);
  mount_reply_ = {.status = 405};
  EXPECT_EQ(copy_across().moved_blobs, 32U);
  EXPECT_EQ(server_.count("PUT", "/uploads/plain?digest=sha256:"), 32U);
  EXPECT_GE(server_.count("POST", "?mount="), 1U);
  EXPECT_LE(server_.count("POST", "?mount="), 8U);  // those that were under way
}

TEST_F(MountTest, ARegistryThatIsBusyIsUploadedTo) {
  mount_reply_ = {.status = 503};
  EXPECT_EQ(copy_across().moved_blobs, 4U);
}

TEST_F(MountTest, TheTokenForMountsIsForBothRepositories) {
  wants_token_ = true;
  copy_across();
  const auto requests = server_.requests();
  const auto asks = [&](const std::string& scopes) {
    return std::any_of(requests.begin(), requests.end(), [&](const ServedRequest& request) {
      return boost::algorithm::iequals(request.target, "/token?service=s&" + scopes);
    });
  };
  const std::string target = "scope=repository%3Aother%2Fapp%3Apull%2Cpush";
  EXPECT_TRUE(asks(target + "&scope=repository%3Ateam%2Fapp%3Apull"));
  EXPECT_TRUE(asks(target));
}

TEST_F(MountTest, ADryRunBeginsNoUpload) {
  const auto result = copy_across({.dry_run = true});
  EXPECT_EQ(result.mounted_blobs, 4U);
  EXPECT_EQ(server_.count("POST", "") + server_.count("PUT", ""), 0U);
}

TEST_F(MountTest, ABlobTooLargeToBeHeldIsRefusedBeforeAnythingIsAsked) {
  auto manifest = format::parse_manifest(as_bytes(manifest_), "manifest");
  for (auto& layer : manifest.layers) layer.media_type = "application/vnd.oci.image.layer.v1.tar";
  manifest.layers.back().size = kMaxForeignBlobSize + 1;
  manifest_ = format::to_json_text(manifest);
  EXPECT_THAT(message_of([&] { copy_across(); }),
              AllOf(HasSubstr(manifest.layers.back().digest.to_string()),
                    HasSubstr("has 1073741825 bytes"), HasSubstr("1073741824")));
  EXPECT_EQ(server_.count("HEAD", "") + server_.count("POST", ""), 0U);
}

}  // namespace
}  // namespace puzzlefs::build
