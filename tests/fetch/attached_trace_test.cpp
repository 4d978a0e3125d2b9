// Traces that are attached to images: which one counts, what of it is believed, and what a mount
// asks for.
#include "fetch/attached_trace.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <map>
#include <memory>
#include <mutex>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "../support/metadata_blob.h"
#include "../support/scripted_server.h"
#include "../support/temp_dir.h"
#include "fetch/image.h"
#include "fetch/prefetcher.h"
#include "format/error.h"
#include "format/metadata_writer.h"

namespace puzzlefs::fetch {
namespace {

using test::Reply;
using test::ServedRequest;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::ThrowsMessage;

format::Descriptor describe(std::string_view media_type, ByteView content) {
  format::Descriptor descriptor;
  descriptor.media_type = media_type;
  descriptor.digest = format::sha256(content);
  descriptor.size = content.size();
  return descriptor;
}

/// A repository with an image of one file, in chunks of a letter each, to which traces are
/// attached.
class AttachedTraceTest : public testing::Test {
 protected:
  AttachedTraceTest() {
    format::InodeRecord root{.ino = format::kRootInode, .type = format::FileType::kDirectory};
    root.entries = {{format::InodeNumber{2}, "file"}};
    format::InodeRecord file{.ino = format::InodeNumber{2}};
    format::Manifest manifest{.config = format::empty_config()};
    for (const auto* content : {"a", "b", "c"}) {
      const auto chunk = serve_blob(content, format::kFiledataType);
      manifest.layers.push_back(chunk);
      file.chunks.push_back({.blob = chunk.digest, .offset = 0, .size = chunk.size});
    }
    const auto metadata = format::write_metadata({{root, file}}, {});
    manifest.layers.insert(manifest.layers.begin(),
                           serve_blob(as_text(metadata), format::kRootfsType));
    image_ = serve_manifest(format::to_json_text(manifest));
  }

  void serve(const std::string& target, Reply reply) {
    const std::lock_guard lock(mutex_);
    served_["/v2/repo/" + target] = std::move(reply);
  }
  format::Descriptor serve_blob(std::string_view content, std::string_view media_type) {
    auto blob = describe(media_type, as_bytes(content));
    serve("blobs/" + blob.digest.to_string(), {.body = std::string(content)});
    return blob;
  }
  format::Descriptor serve_manifest(const std::string& document) {
    auto descriptor = describe(format::kManifestType, as_bytes(document));
    serve("manifests/" + descriptor.digest.to_string(), {.body = document});
    return descriptor;
  }

  static std::string trace_of(const std::vector<std::string>& contents) {
    format::Trace trace;
    for (const auto& content : contents) trace.chunks.push_back(format::sha256(as_bytes(content)));
    return format::to_text(trace);
  }
  /// An entry of the list; without a time if that is empty.
  format::Descriptor entry(format::Descriptor manifest, const std::string& created) {
    manifest.artifact_type = format::kTraceType;
    if (!created.empty()) manifest.annotations = {{"org.opencontainers.image.created", created}};
    return manifest;
  }
  format::Descriptor attach(const std::vector<std::string>& contents,
                            const std::string& created = {}) {
    const auto blob = serve_blob(trace_of(contents), format::kTraceType);
    const auto document = trace_manifest(image_, blob, {});
    return entry(serve_manifest(std::string(as_text(document))), created);
  }
  void list(const std::vector<format::Descriptor>& entries) {
    nlohmann::json index{{"schemaVersion", 2}, {"mediaType", format::kIndexType}};
    index["manifests"] = nlohmann::json::array();
    for (const auto& each : entries) index["manifests"].push_back(format::to_json(each));
    serve("referrers/" + image_.digest.to_string() + kFilter, {.body = index.dump()});
  }

  std::unique_ptr<Registry> registry() {
    return std::make_unique<Registry>(client_,
                                      format::parse_registry_name(server_.host() + "/repo:tag"),
                                      Registry::Access::kPull, options_.registry);
  }
  std::optional<AttachedTrace> find() {
    const auto repository = registry();
    return wait_for<std::optional<AttachedTrace>>(
        [&](auto done) { find_attached_trace(*repository, image_.digest, std::move(done)); });
  }
  format::Trace read(const format::Descriptor& blob) {
    const auto repository = registry();
    return wait_for<format::Trace>(
        [&](auto done) { read_attached_trace(runtime_, *repository, blob, std::move(done)); });
  }
  std::unique_ptr<Image> open() {
    auto name = format::parse_registry_name(server_.host() + "/repo:tag");
    name.digest = image_.digest;
    return Image::open(runtime_, name, options_);
  }
  /// How often something was asked for whose name has this in it.
  std::size_t asked(const std::string& part) const { return server_.count("GET", part); }
  std::size_t asked_for_chunk(std::string_view content) const {
    return asked(format::sha256(as_bytes(content)).to_string());
  }
  static void wait_for_chunk(Image& image, std::string_view content) {
    const auto digest = format::sha256(as_bytes(content));
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(30);
    while (!image.blobs().is_cached(digest)) {
      ASSERT_LT(std::chrono::steady_clock::now(), deadline) << content;
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
  }

  const std::string kFilter = "?artifactType=application%2Fvnd.puzzlefs.image.trace.v1";
  std::mutex mutex_;  // guards the next
  std::map<std::string, Reply> served_;
  format::Descriptor image_;
  test::TempDir temp_;
  test::ScriptedServer server_{[this](const ServedRequest& request) {
    const std::lock_guard lock(mutex_);
    const auto found = served_.find(request.target);
    if (found != served_.end()) return found->second;
    return Reply{.status = request.target == "/v2/" ? 200 : 404};
  }};
  Runtime runtime_{2};
  HttpClient client_{runtime_};
  ImageOptions options_{.registry = {.plain_http = true, .deadline = std::chrono::seconds(20)},
                        .cache_directory = temp_ / "cache"};
};

TEST_F(AttachedTraceTest, TheOneThatWasAttachedLastCounts) {
  const auto newest = attach({"b"}, "2026-01-01T10:00:00Z");
  list({attach({"a"}, "2026-01-01T09:59:59.9Z"), newest, attach({"c"}, "2026-01-01T10:30:00+01:00"),
        attach({"a", "b"}), attach({"a", "c"}, "tomorrow")});
  const auto found = find();
  ASSERT_TRUE(found);
  EXPECT_EQ(found->manifest, newest.digest);
  EXPECT_EQ(read(found->blob).chunks, std::vector{format::sha256(as_bytes("b"))});
}

TEST_F(AttachedTraceTest, WithoutTimesTheLastOfTheListCounts) {
  list({attach({"a"}), attach({"b"})});
  const auto found = find();
  ASSERT_TRUE(found);
  EXPECT_EQ(read(found->blob).chunks, std::vector{format::sha256(as_bytes("b"))});
}

TEST_F(AttachedTraceTest, WhereThereIsNoneTwoRequestsSayIt) {
  EXPECT_FALSE(find());
  // With the greeting, and what was asked before it: this server says in no other way what it is.
  EXPECT_EQ(server_.requests().size(), 4U);
}

TEST_F(AttachedTraceTest, WhatIsNoneIsNotTaken) {
  auto other = image_;
  other.digest = format::sha256(as_bytes("another image"));
  const auto blob = serve_blob(trace_of({"a"}), format::kTraceType);
  const auto picture = serve_blob("a picture", "image/png");
  for (const auto& document : {trace_manifest(other, blob, {}), trace_manifest(image_, picture, {}),
                               Bytes{as_bytes("{}").begin(), as_bytes("{}").end()}}) {
    list({entry(serve_manifest(std::string(as_text(document))), {})});
    EXPECT_THROW(find(), CorruptError);
  }
}

TEST_F(AttachedTraceTest, OfSeveralLayersTheTraceCounts) {
  const auto blob = serve_blob(trace_of({"a"}), format::kTraceType);
  auto manifest = format::parse_manifest(trace_manifest(image_, blob, {}), "manifest");
  manifest.layers = {serve_blob("a picture", "image/png"), blob,
                     serve_blob(trace_of({"b"}), format::kTraceType)};
  list({entry(serve_manifest(format::to_json_text(manifest)), {})});
  EXPECT_EQ(find()->blob, blob);
}

TEST_F(AttachedTraceTest, WhatIsWrongOrTooLargeIsNotRead) {
  const auto text = trace_of({"a"});
  auto blob = serve_blob(text, format::kTraceType);
  serve("blobs/" + blob.digest.to_string(), {.body = std::string(text.size(), 'x')});
  EXPECT_THAT([&] { read(blob); }, ThrowsMessage<CorruptError>(HasSubstr("wrong bytes")));
  EXPECT_THAT([&] { read(serve_blob("text", format::kTraceType)); },
              ThrowsMessage<CorruptError>(HasSubstr("not a trace")));
  const auto before = server_.requests().size();
  blob.size = kMaxAttachedTrace + 1;
  EXPECT_THAT([&] { read(blob); }, ThrowsMessage<CorruptError>(HasSubstr("too large")));
  EXPECT_EQ(server_.requests().size(), before);
}

TEST_F(AttachedTraceTest, WhatCanBeDoneWithoutIsTriedOnceAndHeldAgainstNobody) {
  const auto referrers = "referrers/" + image_.digest.to_string() + kFilter;
  serve(referrers, {.status = 503, .headers = {{"Retry-After", "3600"}}});
  const auto image = open();
  for (int i = 0; i < 2; ++i) {
    EXPECT_THROW(wait_for<std::optional<AttachedTrace>>([&](auto done) {
                   find_attached_trace(*image->extras(), image_.digest, std::move(done));
                 }),
                 UnavailableError);
  }
  EXPECT_EQ(asked("referrers/"), 1U);  // the second was not sent, as the server wants
  const auto blob = describe(format::kFiledataType, as_bytes("a"));
  EXPECT_NO_THROW(
      wait_for<BlobData>([&](auto done) { image->blobs().read(blob, std::move(done)); }));
}

TEST_F(AttachedTraceTest, IsPrefetchedInItsOrder) {
  list({attach({"c", "unknown", "a"})});
  const auto image = open();
  Prefetcher prefetcher(runtime_, *image, {.attached = true});
  prefetcher.start();
  wait_for_chunk(*image, "c");
  wait_for_chunk(*image, "a");
  EXPECT_EQ(asked_for_chunk("b"), 0U);
  EXPECT_EQ(asked_for_chunk("unknown"), 0U);
  image->close();
}

// What comes after a trace that is of no use shows that all of it was given up.
TEST_F(AttachedTraceTest, WithoutOneThatIsOfUseAllElseGoesOn) {
  const auto wrong = serve_blob(trace_of({"a"}), format::kTraceType);
  serve("blobs/" + wrong.digest.to_string(), {.body = "short"});
  const auto document = trace_manifest(image_, wrong, {});
  list({entry(serve_manifest(std::string(as_text(document))), {})});
  const auto image = open();
  Prefetcher prefetcher(runtime_, *image, {.attached = true, .everything = true});
  prefetcher.start();
  for (const auto* content : {"a", "b", "c"}) wait_for_chunk(*image, content);
  EXPECT_EQ(asked(wrong.digest.to_string()), 1U);
  image->close();
}

TEST_F(AttachedTraceTest, IsNotAskedForWhereItIsNotWanted) {
  list({attach({"a"})});
  {
    const auto image = open();
    EXPECT_FALSE(image->was_here());
    Prefetcher prefetcher(runtime_, *image, {.everything = true});
    prefetcher.start();
    for (const auto* content : {"a", "b", "c"}) wait_for_chunk(*image, content);
    image->close();
  }
  const auto image = open();
  EXPECT_TRUE(image->was_here());
  const auto before = server_.requests().size();
  {
    Prefetcher prefetcher(runtime_, *image, {.attached = true, .everything = true});
    prefetcher.start();
    // So that what was posted has run.
    wait_for<BlobData>([&](auto done) {
      image->blobs().read(describe(format::kFiledataType, as_bytes("a")), std::move(done));
    });
    image->close();
  }
  EXPECT_EQ(server_.requests().size(), before);
}

TEST_F(AttachedTraceTest, AServerThatHangsKeepsNobody) {
  serve("referrers/" + image_.digest.to_string() + kFilter,
        {.body = "{", .ending = Reply::Ending::kStall, .body_sent = 0});
  const auto image = open();
  Prefetcher prefetcher(runtime_, *image, {.attached = true});
  prefetcher.start();
  server_.wait_for_requests(3);  // manifest and metadata before it
  prefetcher.stop();
  image->close();
}

}  // namespace
}  // namespace puzzlefs::fetch
