// Which certificates a server is met with, by the directories of containers-certs.d(5).
#include "fetch/tls_certificates.h"

#include <gmock/gmock.h>

#include <fstream>

#include "../support/temp_dir.h"
#include "format/error.h"

namespace puzzlefs::fetch {
namespace {

using testing::HasSubstr;

constexpr const char* kOne = "-----BEGIN CERTIFICATE-----\none\n-----END CERTIFICATE-----";
constexpr const char* kTwo = "-----BEGIN CERTIFICATE-----\ntwo\n-----END CERTIFICATE-----";

class TlsCertificatesTest : public testing::Test {
 protected:
  void put(const std::string& name, const std::string& text) {
    std::filesystem::create_directories((directory_ / name).parent_path());
    std::ofstream(directory_ / name) << text;
  }
  ServerCertificates find(const std::string& server, const std::filesystem::path& authority = {}) {
    return TlsCertificates(authority, {directory_ / "first", directory_ / "second"}).find(server);
  }

  test::TempDir directory_;
};

TEST_F(TlsCertificatesTest, OfAnUnknownServerAreNone) {
  put("first/other.example/ca.crt", kOne);
  EXPECT_EQ(find("registry.example"), ServerCertificates());
}

TEST_F(TlsCertificatesTest, AreTheFilesOfTheServersDirectory) {
  put("first/registry.example:5000/a.crt", kOne);
  put("first/registry.example:5000/b.crt", kTwo);
  put("first/registry.example:5000/me.cert", kOne);
  put("first/registry.example:5000/me.key", kTwo);
  put("first/registry.example:5000/README", "no certificate");
  const auto found = find("registry.example:5000");
  EXPECT_EQ(found.authorities, std::string(kOne) + "\n" + kTwo + "\n");
  EXPECT_EQ(found.client_chain, directory_ / "first/registry.example:5000/me.cert");
  EXPECT_EQ(found.client_key, directory_ / "first/registry.example:5000/me.key");
  EXPECT_EQ(find("registry.example"), ServerCertificates());
}

TEST_F(TlsCertificatesTest, ComeFromTheFirstDirectoryThatHasTheServer) {
  put("second/registry.example/ca.crt", kTwo);
  EXPECT_EQ(find("registry.example").authorities, std::string(kTwo) + "\n");
  put("first/registry.example/ca.crt", kOne);
  EXPECT_EQ(find("registry.example").authorities, std::string(kOne) + "\n");
}

TEST_F(TlsCertificatesTest, IncludeTheAuthorityForAllServers) {
  put("own.pem", kOne);
  put("first/registry.example/ca.crt", kTwo);
  EXPECT_EQ(find("elsewhere.example", directory_ / "own.pem").authorities,
            std::string(kOne) + "\n");
  EXPECT_EQ(find("registry.example", directory_ / "own.pem").authorities,
            std::string(kOne) + "\n" + kTwo + "\n");
}

TEST_F(TlsCertificatesTest, NeedBothHalvesOfAPair) {
  put("first/one.example/me.cert", kOne);
  EXPECT_THROW(find("one.example"), NotFoundError);
  put("first/two.example/me.key", kOne);
  EXPECT_THROW(find("two.example"), NotFoundError);
}

TEST_F(TlsCertificatesTest, MustBePem) {
  put("own.pem", "\x30\x82");
  try {
    find("registry.example", directory_ / "own.pem");
    FAIL() << "it is no certificate";
  } catch (const CorruptError& error) {
    EXPECT_THAT(error.what(), HasSubstr((directory_ / "own.pem").string()));
  }
  EXPECT_THROW(find("registry.example", directory_ / "missing.pem"), NotFoundError);
  put("own.pem", "-----BEGIN PRIVATE KEY-----\nkey\n-----END PRIVATE KEY-----\n");
  EXPECT_THROW(find("registry.example", directory_ / "own.pem"), CorruptError);
}

TEST_F(TlsCertificatesTest, MayCarryTheTrustOfOpenSsl) {
  put("own.pem", "# text\n-----BEGIN TRUSTED CERTIFICATE-----\n");
  EXPECT_THAT(find("registry.example", directory_ / "own.pem").authorities, HasSubstr("TRUSTED"));
}

TEST_F(TlsCertificatesTest, APairThatCannotBeLookedAtLacksAHalf) {
  put("first/one.example/me.cert", kOne);
  std::filesystem::create_symlink("me.key", directory_ / "first/one.example/me.key");
  EXPECT_THROW(find("one.example"), NotFoundError);
}

TEST_F(TlsCertificatesTest, AreNotSoughtOutsideOfTheDirectories) {
  put("ca.crt", kOne);
  put("first/ca.crt", kOne);
  EXPECT_EQ(find(".."), ServerCertificates());
  EXPECT_EQ(find("."), ServerCertificates());
}

}  // namespace
}  // namespace puzzlefs::fetch
