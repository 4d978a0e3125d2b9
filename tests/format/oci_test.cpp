// OCI documents: what is accepted, what is refused, and what is written.
#include "format/oci.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>

#include "format/error.h"

namespace puzzlefs::format {
namespace {

const std::string kDigest = "sha256:" + std::string(64, '0');

std::string descriptor(const std::string& more = "") {
  return R"({"mediaType":"m","digest":")" + kDigest + R"(","size":7)" + more + "}";
}

std::string manifest(const std::string& layers) {
  return R"({"schemaVersion":2,"config":)" + descriptor() + R"(,"layers":)" + layers + "}";
}

Manifest parse(const std::string& text) {
  return parse_manifest(as_bytes(text), "manifest");
}

TEST(Manifest, RoundTrips) {
  Manifest original{empty_config(), {}, {{"k", "v"}}};
  original.layers.push_back({std::string(kRootfsType),
                             sha256(as_bytes("x")),
                             1,
                             {{std::string(kVerityAnnotation), "00"}},
                             {},
                             {}});
  EXPECT_EQ(parse(to_json_text(original)), original);
}

TEST(Manifest, IgnoresMembersItDoesNotKnow) {
  EXPECT_EQ(
      parse(manifest("[" + descriptor(R"(,"urls":["u"],"artifactType":null)") + "]")).layers.size(),
      1U);
}

TEST(Manifest, RefusesMalformedDocuments) {
  for (const std::string& text :
       {std::string(""), std::string("<html>"), std::string("[]"), std::string("{}"),
        manifest("{}"), manifest("[1]"), manifest("[{}]"),
        manifest(R"([{"mediaType":"m","digest":"sha256:1","size":7}])"),
        manifest(R"([{"mediaType":"m","digest":")" + kDigest + R"(","size":-1}])"),
        manifest(R"([{"mediaType":"m","digest":")" + kDigest + R"(","size":1e300}])"),
        manifest(R"([{"mediaType":1,"digest":")" + kDigest + R"(","size":1}])"),
        manifest("[" + descriptor(R"(,"annotations":{"a":1})") + "]"),
        manifest("[" + descriptor(R"(,"platform":"linux")") + "]"),
        std::string(R"({"schemaVersion":1,"config":)") + descriptor() + R"(,"layers":[]})"})
    EXPECT_THROW(parse(text), CorruptError) << text;
}

TEST(Manifest, RefusesDeepNestingWithoutOverflowingTheStack) {
  EXPECT_THROW(parse(manifest(std::string(1'000'000, '[') + std::string(1'000'000, ']'))),
               CorruptError);
}

TEST(Manifest, RefusesMoreThanFourMebibytes) {
  EXPECT_THROW(parse(manifest("[]") + std::string(kMaxManifestSize, ' ')), CorruptError);
}

TEST(MetadataLayer, SaysWhatAnotherImageIs) {
  const std::string layer =
      R"([{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","digest":")" + kDigest +
      R"(","size":1}])";
  try {
    metadata_layer(parse(manifest(layer)), "debian:12");
    FAIL();
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("tar+gzip"), std::string::npos);
    EXPECT_NE(std::string(error.what()).find("debian:12"), std::string::npos);
  }
}

TEST(MediaType, ComesFromTheDocument) {
  EXPECT_EQ(media_type_of(as_bytes(R"({"mediaType":"x/y","layers":[]})"), "d"), "x/y");
  EXPECT_EQ(media_type_of(as_bytes(R"({"manifests":[]})"), "d"), kIndexType);
  EXPECT_EQ(media_type_of(as_bytes(R"({"layers":[]})"), "d"), kManifestType);
  EXPECT_EQ(media_type_of(as_bytes("{}"), "d"), "");
}

TEST(Platform, SelectsTheEntryThatFits) {
  const std::string text = R"({"schemaVersion":2,"manifests":[)" +
                           descriptor(R"(,"platform":{"architecture":"arm64","os":"linux"})") +
                           "," + R"({"mediaType":"wanted","digest":")" + kDigest +
                           R"(","size":1,"platform":{"architecture":"amd64","os":"linux"}}]})";
  const Index index = parse_index(as_bytes(text), "index");
  EXPECT_EQ(select_platform(index, {"amd64", "linux"})->media_type, "wanted");
  EXPECT_FALSE(select_platform(index, {"s390x", "linux"}));
}

}  // namespace
}  // namespace puzzlefs::format
