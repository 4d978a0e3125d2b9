// The registry client against Debian's docker-registry.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <future>
#include <memory>

#include "../support/registry_process.h"
#include "../support/temp_dir.h"
#include "fetch/base64.h"
#include "fetch/registry.h"
#include "fetch/runtime.h"

namespace puzzlefs::fetch {
namespace {

using testing::HasSubstr;

constexpr std::string_view kBlob = "the bytes of a blob";

Bytes to_bytes(std::string_view text) {
  const auto view = as_bytes(text);
  return {view.begin(), view.end()};
}

class RealRegistryTest : public testing::Test {
 protected:
  void SetUp() override {
    if (!test::RegistryProcess::installed()) GTEST_SKIP() << "docker-registry is not installed";
  }

  Registry connect(const test::RegistryProcess& process, RegistryOptions options = {}) {
    options.deadline = std::chrono::seconds(5);
    return Registry(client_, format::parse_registry_name(process.host() + "/team/app:1"),
                    Registry::Access::kPush, std::move(options));
  }
  static Bytes read(Registry& registry, const format::Descriptor& blob) {
    return wait_for<Bytes>(
        [&](Completion<Bytes> done) { registry.read(blob, Freshness::kAny, std::move(done)); });
  }
  static format::Descriptor put(Registry& registry, std::string_view text) {
    format::Descriptor blob;
    blob.digest = format::sha256(as_bytes(text));
    blob.size = text.size();
    wait_for<Done>([&](Completion<Done> done) {
      registry.put_blob(blob.digest, std::make_shared<const Bytes>(to_bytes(text)),
                        std::move(done));
    });
    return blob;
  }
  static bool has(Registry& registry, const format::Digest& digest) {
    return wait_for<bool>(
        [&](Completion<bool> done) { registry.has_blob(digest, std::move(done)); });
  }

  test::TempDir directory_;
  Runtime runtime_{2};
  HttpClient client_{runtime_};
};

TEST_F(RealRegistryTest, AnInsecureOneIsNotAskedForAnAuthority) {
  const test::RegistryProcess process({.tls = true});
  const auto file = directory_ / "registries.conf";
  std::ofstream(file) << "[[registry]]\nlocation = \"" << process.host() << "\"\ninsecure = true\n";
  EXPECT_THROW(put(*std::make_unique<Registry>(connect(process)), kBlob), Error);
  auto registry = connect(process, {.registries = RegistriesConf::read({file})});
  const auto blob = put(registry, kBlob);
  EXPECT_EQ(as_text(read(registry, blob)), kBlob);
}

TEST_F(RealRegistryTest, KeepsBlobs) {
  const test::RegistryProcess process;
  auto registry = connect(process);
  EXPECT_FALSE(has(registry, format::sha256(as_bytes(kBlob))));
  const auto blob = put(registry, kBlob);
  EXPECT_TRUE(has(registry, blob.digest));
  EXPECT_EQ(as_text(read(registry, blob)), kBlob);
}

TEST_F(RealRegistryTest, KeepsAnEmptyBlob) {
  const test::RegistryProcess process;
  auto registry = connect(process);
  EXPECT_TRUE(read(registry, put(registry, "")).empty());
}

TEST_F(RealRegistryTest, KeepsManifestsByTagAndDigest) {
  const test::RegistryProcess process;
  auto registry = connect(process);
  format::Manifest manifest;
  manifest.config = put(registry, format::kEmptyConfigBlob);
  manifest.config.media_type = format::kEmptyType;
  manifest.layers.push_back(put(registry, kBlob));
  manifest.layers.back().media_type = format::kFiledataType;
  auto json = format::to_json_text(manifest);
  wait_for<Done>([&](Completion<Done> done) {
    registry.put_manifest("1", std::string(format::kManifestType), to_bytes(json), std::move(done));
  });
  const auto get = [&](const std::string& reference) {
    return wait_for<FetchedManifest>([&](Completion<FetchedManifest> done) {
      registry.get_manifest(reference, std::move(done));
    });
  };
  const auto by_tag = get("1");
  EXPECT_EQ(as_text(by_tag.document), json);
  EXPECT_EQ(as_text(get(by_tag.digest.to_string()).document), json);
  EXPECT_THROW(get("2"), NotFoundError);
}

// Debian's keeps no list of referrers: they are found by the tag.
TEST_F(RealRegistryTest, KeepsWhatRefersToAnImage) {
  const test::RegistryProcess process;
  auto registry = connect(process);
  format::Manifest manifest;
  manifest.config = put(registry, format::kEmptyConfigBlob);
  manifest.config.media_type = format::kEmptyType;
  manifest.subject = put(registry, kBlob);
  manifest.subject->media_type = format::kManifestType;
  const auto referrers = [&](const std::string& type) {
    std::vector<std::string> types;
    for (const auto& entry : wait_for<std::vector<format::Descriptor>>([&](auto done) {
           registry.referrers(manifest.subject->digest, type, std::move(done));
         })) {
      types.push_back(entry.artifact_type);
    }
    return types;
  };
  EXPECT_THAT(referrers(""), testing::IsEmpty());
  for (const auto* type : {"application/a", "application/b+json", "application/b+json"}) {
    manifest.artifact_type = type;
    wait_for<Done>([&](Completion<Done> done) {
      registry.attach(to_bytes(format::to_json_text(manifest)), std::move(done));
    });
  }
  EXPECT_THAT(referrers(""), testing::ElementsAre("application/a", "application/b+json"));
  EXPECT_THAT(referrers("application/b+json"), testing::ElementsAre("application/b+json"));
}

TEST_F(RealRegistryTest, WantsAPasswordWhenItIsProtected) {
  const test::RegistryProcess process({.user = "me", .password = "a:b"});
  auto anonymous = connect(process);
  try {
    put(anonymous, kBlob);
    FAIL() << "it is protected";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), EACCES);
    EXPECT_THAT(error.what(), HasSubstr("puzzlefs login " + process.host()));
  }
  std::ofstream(directory_ / "auth.json")
      << R"({"auths": {")" << process.host() << R"(": {"auth": ")" << base64_encode("me:a:b")
      << "\"}}}";
  RegistryOptions options;
  options.credentials = Credentials(directory_ / "auth.json");
  auto registry = connect(process, options);
  EXPECT_EQ(as_text(read(registry, put(registry, kBlob))), kBlob);
}

/// With TLS and thus HTTP/2.
class TlsRegistryTest : public RealRegistryTest {
 protected:
  void SetUp() override {
    RealRegistryTest::SetUp();
    if (IsSkipped()) return;
    process_ = std::make_unique<test::RegistryProcess>(test::RegistrySettings{.tls = true});
  }

  std::unique_ptr<test::RegistryProcess> process_;
};

TEST_F(TlsRegistryTest, KeepsManyBlobs) {
  HttpClient client(runtime_, {.certificates = TlsCertificates(process_->certificate())});
  Registry registry(client, format::parse_registry_name(process_->host() + "/team/app:1"),
                    Registry::Access::kPush, {});
  std::vector<std::future<Outcome<Done>>> answers;
  for (int i = 0; i < 40; ++i) {
    const auto text = std::string(100'000, 'b') + std::to_string(i);
    auto promise = std::make_shared<std::promise<Outcome<Done>>>();
    answers.push_back(promise->get_future());
    registry.put_blob(format::sha256(as_bytes(text)), std::make_shared<const Bytes>(to_bytes(text)),
                      [promise](Outcome<Done> outcome) { promise->set_value(std::move(outcome)); });
  }
  for (auto& answer : answers) EXPECT_NO_THROW(answer.get().value());
  const auto text = std::string(100'000, 'b') + "39";
  format::Descriptor blob;
  blob.digest = format::sha256(as_bytes(text));
  blob.size = text.size();
  EXPECT_EQ(as_text(read(registry, blob)), text);
}

TEST_F(TlsRegistryTest, IsNotTrustedWithoutACertificate) {
  auto registry = connect(*process_);
  try {
    put(registry, kBlob);
    FAIL() << "it is trusted";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), EPROTO);
    EXPECT_THAT(error.what(), HasSubstr("its certificate is not trusted"));
  }
}

TEST_F(TlsRegistryTest, IsTrustedForTheSystemsAuthoritiesBesidesOthers) {
  const test::RegistryProcess other({.tls = true});
  const auto use = [&](const test::RegistryProcess& process, const std::filesystem::path& system) {
    HttpClient client(runtime_, {.certificates = TlsCertificates(other.certificate()),
                                 .ca_file = system.string()});
    Registry registry(client, format::parse_registry_name(process.host() + "/team/app:1"),
                      Registry::Access::kPush, {});
    put(registry, kBlob);
  };
  EXPECT_NO_THROW(use(*process_, process_->certificate()));
  EXPECT_NO_THROW(use(other, process_->certificate()));
  EXPECT_NO_THROW(use(other, directory_ / "missing.pem"));
  EXPECT_THROW(use(*process_, other.certificate()), Error);
}

/// With TLS, for clients that show a certificate.
class ClientCertificateTest : public RealRegistryTest {
 protected:
  void SetUp() override {
    RealRegistryTest::SetUp();
    if (IsSkipped()) return;
    process_ = std::make_unique<test::RegistryProcess>(
        test::RegistrySettings{.tls = true, .wants_client_certificate = true});
    const auto own = directory_ / "certs.d" / process_->host();
    std::filesystem::create_directories(own);
    std::filesystem::copy(process_->certificate(), own / "ca.crt");
  }
  void show_certificate() {
    const auto own = directory_ / "certs.d" / process_->host();
    std::filesystem::copy(process_->client_certificate(), own / "client.cert");
    std::filesystem::copy(process_->client_key(), own / "client.key");
  }
  /// Puts a blob and reads it again.
  std::string round_trip() {
    HttpClient client(runtime_, {.certificates = TlsCertificates({}, {directory_ / "certs.d"})});
    Registry registry(client, format::parse_registry_name(process_->host() + "/team/app:1"),
                      Registry::Access::kPush, {});
    const auto bytes = read(registry, put(registry, kBlob));
    return std::string(as_text(bytes));
  }

  std::unique_ptr<test::RegistryProcess> process_;
};

TEST_F(ClientCertificateTest, IsShownToTheServerThatItIsFor) {
  show_certificate();
  EXPECT_EQ(round_trip(), kBlob);
}

TEST_F(ClientCertificateTest, IsMissedWithAWordOnWhereToPutIt) {
  try {
    round_trip();
    FAIL() << "it is let in";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), EPROTO);
    EXPECT_THAT(error.what(), HasSubstr("wants another client's certificate, or one at all"));
  }
}

TEST_F(RealRegistryTest, ServesAgainAfterARestart) {
  test::RegistryProcess process;
  auto registry = connect(process);
  const auto blob = put(registry, kBlob);
  process.stop();
  registry.set_deadline(std::chrono::seconds(0));
  EXPECT_THROW(read(registry, blob), UnavailableError);
  process.start();
  EXPECT_EQ(as_text(read(registry, blob)), kBlob);
}

}  // namespace
}  // namespace puzzlefs::fetch
