// Reading by way of mirrors that serve, fail, lie and come back.
#include "fetch/mirrors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "../support/scripted_server.h"
#include "../support/temp_dir.h"
#include "fetch/registry.h"
#include "fetch/runtime.h"

namespace puzzlefs::fetch {
namespace {

using std::chrono::seconds;
using test::Reply;
using test::ScriptedServer;
using test::ServedRequest;

constexpr std::string_view kBlob = "the bytes of a blob";
constexpr std::string_view kManifest = R"({"schemaVersion":2,"layers":[]})";

format::Descriptor descriptor() {
  format::Descriptor result;
  result.digest = format::sha256(as_bytes(kBlob));
  result.size = kBlob.size();
  return result;
}

Reply serve(const ServedRequest& request) {
  if (request.target.find("/blobs/") != std::string::npos) return {.body = std::string(kBlob)};
  if (request.target.find("/manifests/") == std::string::npos) return {};
  return {.headers = {{"Content-Type", std::string(format::kManifestType)}},
          .body = std::string(kManifest)};
}

/// Answers everything but the greeting with a status.
ScriptedServer::Script refuse(int status) {
  return [status](const ServedRequest& request) {
    return request.target == "/v2/" ? Reply{} : Reply{.status = status};
  };
}

class MirrorsTest : public testing::Test {
 protected:
  MirrorsTest()
      : first_(script(first_script_)),
        second_(script(second_script_)),
        origin_(script(origin_script_)) {}

  /// Reads from now on by these lines of [[registry.mirror]] for the first and the second mirror.
  void connect(const std::string& first_use = {}, const std::string& second_use = {}) {
    const auto file = directory_ / "registries.conf";
    std::ofstream(file) << "[[registry]]\nlocation = \"" << origin_.host() << "\"\n"
                        << mirror(first_, first_use) << mirror(second_, second_use);
    RegistryOptions options;
    options.deadline = seconds(5);
    options.registries = RegistriesConf::read({file});
    registry_ = std::make_unique<Registry>(
        client_, format::parse_registry_name(origin_.host() + "/team/app:1"),
        Registry::Access::kPull, options);
  }
  static std::string mirror(const ScriptedServer& server, const std::string& use) {
    return "[[registry.mirror]]\nlocation = \"" + server.host() + "/cache\"\n" + use + "\n";
  }

  Bytes read(Freshness freshness = Freshness::kAny) {
    return wait_for<Bytes>(
        [&](auto done) { registry_->read(descriptor(), freshness, std::move(done)); });
  }
  void get_manifest(const std::string& reference) {
    wait_for<FetchedManifest>(
        [&](auto done) { registry_->get_manifest(reference, std::move(done)); });
  }
  static std::size_t blobs(const ScriptedServer& server) { return server.count("GET", "/blobs/"); }
  static std::size_t manifests(const ScriptedServer& server) {
    return server.count("GET", "/manifests/");
  }

  // What the servers do now.
  ScriptedServer::Script first_script_ = serve;
  ScriptedServer::Script second_script_ = serve;
  ScriptedServer::Script origin_script_ = serve;

  test::TempDir directory_;
  ScriptedServer first_;
  ScriptedServer second_;
  ScriptedServer origin_;
  Runtime runtime_{2};
  HttpClient client_{runtime_};
  std::unique_ptr<Registry> registry_;

 private:
  static ScriptedServer::Script script(const ScriptedServer::Script& current) {
    return [&current](const ServedRequest& request) { return current(request); };
  }
};

TEST_F(MirrorsTest, TheFirstIsAskedUnderItsOwnName) {
  connect();
  EXPECT_EQ(as_text(read()), kBlob);
  EXPECT_EQ(first_.requests().back().target,
            "/v2/cache/team/app/blobs/" + descriptor().digest.to_string());
  EXPECT_TRUE(second_.requests().empty());
  EXPECT_TRUE(origin_.requests().empty());
}

TEST_F(MirrorsTest, OneThatFailsIsPassedOver) {
  for (const int status : {400, 401, 403, 429, 500, 503}) {
    first_script_ = refuse(status);
    connect();
    const auto before = blobs(first_);
    EXPECT_EQ(as_text(read()), kBlob) << status;
    EXPECT_EQ(as_text(read()), kBlob) << status;
    EXPECT_EQ(blobs(first_) - before, status == 401 ? 2U : 1U) << status;  // with other credentials
  }
  EXPECT_EQ(blobs(second_), 12U);
  EXPECT_EQ(blobs(origin_), 0U);
}

TEST_F(MirrorsTest, OneThatCannotBeReachedIsPassedOver) {
  const auto file = directory_ / "registries.conf";
  std::ofstream(file) << "[[registry]]\nlocation = \"" << origin_.host() << "\"\n"
                      << "[[registry.mirror]]\nlocation = \"127.0.0.1:" << test::free_port()
                      << "\"\n";
  RegistryOptions options;
  options.registries = RegistriesConf::read({file});
  Registry registry(client_, format::parse_registry_name(origin_.host() + "/team/app:1"),
                    Registry::Access::kPull, options);
  const auto blob = wait_for<Bytes>(
      [&](auto done) { registry.read(descriptor(), Freshness::kAny, std::move(done)); });
  EXPECT_EQ(as_text(blob), kBlob);
}

TEST_F(MirrorsTest, OneThatLacksSomethingIsAskedForTheNext) {
  first_script_ = refuse(404);
  connect();
  read();
  read();
  EXPECT_EQ(blobs(first_), 2U);
  EXPECT_EQ(blobs(second_), 2U);
}

TEST_F(MirrorsTest, TheRegistryServesWhenNoMirrorDoes) {
  first_script_ = refuse(500);
  second_script_ = refuse(404);
  connect();
  EXPECT_EQ(as_text(read()), kBlob);
  EXPECT_EQ(blobs(origin_), 1U);
}

TEST_F(MirrorsTest, WhatTheRegistryRefusesIsRefused) {
  first_script_ = refuse(500);
  second_script_ = refuse(403);
  origin_script_ = refuse(404);
  connect();
  EXPECT_THROW(read(), NotFoundError);
  EXPECT_EQ(blobs(origin_), 1U);
}

TEST_F(MirrorsTest, AfterWrongBytesTheRegistryIsAskedAndTheMirrorNoMore) {
  connect();
  read();
  EXPECT_EQ(as_text(read(Freshness::kBypass)), kBlob);
  EXPECT_EQ(origin_.requests().back().header("cache-control"), "no-cache");
  EXPECT_EQ(blobs(second_), 0U);
  read();
  EXPECT_EQ(blobs(first_), 1U);
  EXPECT_EQ(blobs(second_), 1U);
}

TEST_F(MirrorsTest, TheOneThatSentWrongBytesIsPassedOverAndNoOther) {
  first_script_ = refuse(404);
  connect();
  read();
  read(Freshness::kBypass);
  first_script_ = serve;
  read();
  EXPECT_EQ(blobs(first_), 2U);
  EXPECT_EQ(blobs(second_), 1U);
}

TEST_F(MirrorsTest, AfterWrongBytesAMirrorServesIfTheRegistryDoesNot) {
  origin_script_ = refuse(500);
  connect();
  read();
  EXPECT_EQ(as_text(read(Freshness::kBypass)), kBlob);
  EXPECT_EQ(blobs(first_), 1U);
  EXPECT_EQ(blobs(second_), 1U);
}

TEST_F(MirrorsTest, ThatItLacksWhatCanBeDoneWithoutIsNotHeldAgainstAMirror) {
  connect();
  first_script_ = refuse(503);
  second_script_ = refuse(405);
  origin_script_ = refuse(404);
  const auto extras = registry_->trying_once(seconds(5));
  EXPECT_TRUE(wait_for<std::vector<format::Descriptor>>([&](auto done) {
                extras->referrers(descriptor().digest, {}, std::move(done));
              }).empty());
  EXPECT_EQ(first_.count("GET", "/referrers/"), 1U);
  EXPECT_EQ(second_.count("GET", "/referrers/"), 1U);
  first_script_ = serve;
  read();
  EXPECT_EQ(blobs(first_), 1U);
}

TEST_F(MirrorsTest, AMirrorMayBeForDigestsOnlyOrForTagsOnly) {
  connect("pull-from-mirror = \"digest-only\"", "pull-from-mirror = \"tag-only\"");
  get_manifest("1");
  EXPECT_EQ(manifests(first_), 0U);
  EXPECT_EQ(manifests(second_), 1U);
  get_manifest(format::sha256(as_bytes(kManifest)).to_string());
  EXPECT_EQ(manifests(first_), 1U);
  EXPECT_EQ(manifests(second_), 1U);
  EXPECT_EQ(manifests(origin_), 0U);
}

TEST_F(MirrorsTest, ADownloadGoesOnAtTheNextServer) {
  const std::string blob(64 << 10, 'x');
  first_script_ = [&](const ServedRequest& request) {
    if (request.target == "/v2/") return Reply{};
    return Reply{.headers = {{"Content-Length", std::to_string(blob.size())}},
                 .body = blob,
                 .ending = Reply::Ending::kReset,
                 .body_sent = 20'000};
  };
  second_script_ = [&](const ServedRequest& request) {
    if (request.target == "/v2/") return Reply{};
    return Reply{.status = 206,
                 .headers = {{"Content-Range", "bytes 20000-65535/65536"}},
                 .body = blob.substr(20'000)};
  };
  connect();
  format::Descriptor wanted;
  wanted.digest = format::sha256(as_bytes(blob));
  wanted.size = blob.size();
  const auto read = wait_for<Bytes>(
      [&](auto done) { registry_->read(wanted, Freshness::kAny, std::move(done)); });
  EXPECT_EQ(as_text(read), blob);
  EXPECT_EQ(second_.requests().back().header("range"), "bytes=20000-");
}

}  // namespace
}  // namespace puzzlefs::fetch
