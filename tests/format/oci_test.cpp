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

TEST(Manifest, SaysWhatItSpeaksOf) {
  Manifest original{empty_config(), {}, {}, "application/vnd.example", empty_config()};
  original.subject->artifact_type = "application/vnd.other";
  const auto text = to_json_text(original);
  EXPECT_NE(text.find(R"("artifactType":"application/vnd.example")"), std::string::npos);
  EXPECT_EQ(parse(text), original);
  EXPECT_EQ(artifact_type(original), "application/vnd.example");
  original.artifact_type.clear();
  EXPECT_EQ(artifact_type(original), kEmptyType);
}

TEST(Manifest, OfNothingElseIsWrittenWithoutMembersForThat) {
  EXPECT_EQ(
      to_json_text({empty_config(), {}, {}}),
      R"({"config":)" + to_json(empty_config()).dump() + R"(,"layers":[],"schemaVersion":2})");
  EXPECT_EQ(to_json(empty_config()).dump(),
            R"({"data":"e30=","digest":")" + empty_config().digest.to_string() +
                R"(","mediaType":"application/vnd.oci.empty.v1+json","size":2})");
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

TEST(Manifest, HasTheLayersOfTheLastListOfThatName) {
  const auto one = "[" + descriptor() + "]";
  const auto text = R"({"schemaVersion":2,"config":)" + descriptor() + R"(,"layers":)" + one +
                    R"(,"annotations":{"layers":"x"},"layers":)" + one + "}";
  EXPECT_EQ(parse(text).layers.size(), 1U);
  EXPECT_THROW(parse(manifest(R"({"a":)" + descriptor() + "}")), CorruptError);
  EXPECT_THROW(parse(manifest("[" + one + "]")), CorruptError);
}

std::string repeated(std::string_view part, std::size_t size) {
  std::string text;
  while (text.size() + part.size() < size) text += part;
  return text;
}

// Each would keep the parser busy for hours.
TEST(Manifest, RefusesSoManyPartsThatReadingThemWouldNotEnd) {
  constexpr std::size_t kSize = kMaxManifestSize - 1000;
  const auto layers = "[" + descriptor() + "]";
  for (const auto& member :
       {"\"x\":[" + repeated("{},", kSize) + "{}]",
        "\"x\":{" + repeated("\"a\":{},", kSize) + "\"a\":[]}",
        "\"layers\":[" + repeated("0,", kSize / 2) + repeated("{},", kSize / 2) + "0]",
        "\"layers\":[{\"a\":[" + repeated("[],", kSize) + "0]}]"}) {
    const auto text = R"({"schemaVersion":2,"config":)" + descriptor() + R"(,"layers":)" + layers +
                      "," + member + "}";
    EXPECT_THROW(parse(text), CorruptError) << text.substr(0, 300);
  }
}

TEST(Manifest, IsNoIndexToo) {
  EXPECT_THROW(
      parse(
          R"({"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","config":)" +
          descriptor() + R"(,"layers":[]})"),
      CorruptError);
  EXPECT_THROW(
      parse(R"({"schemaVersion":2,"manifests":[],"config":)" + descriptor() + R"(,"layers":[]})"),
      CorruptError);
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

TEST(Platform, AnEntryWithoutOneIsForThoseThatFindNoOther) {
  const auto entry = [](const std::string& type, std::optional<Platform> platform) {
    Descriptor descriptor;
    descriptor.media_type = type;
    descriptor.platform = std::move(platform);
    return descriptor;
  };
  const Index index{{entry("all", {}), entry("amd64", Platform{"amd64", "linux"})}};
  EXPECT_EQ(select_platform(index, {"amd64", "linux"})->media_type, "amd64");
  EXPECT_EQ(select_platform(index, {"s390x", "linux"})->media_type, "all");
}

TEST(Platform, AVariantCountsWhereItIsWanted) {
  const Platform v7{"arm", "linux", "v7"};
  EXPECT_TRUE(fits(v7, {"arm", "linux"}));
  EXPECT_TRUE(fits(v7, v7));
  EXPECT_FALSE(fits(v7, {"arm", "linux", "v6"}));
  EXPECT_FALSE(fits({"arm", "linux"}, v7));
  EXPECT_FALSE(fits(v7, {"arm", "freebsd"}));
  // What every 64-bit one has.
  EXPECT_TRUE(fits({"arm64", "linux"}, {"arm64", "linux", "v8"}));
  EXPECT_TRUE(fits({"arm64", "linux", "v8"}, {"arm64", "linux", "v8"}));
  EXPECT_FALSE(fits({"arm64", "linux", "v9"}, {"arm64", "linux", "v8"}));
}

TEST(Platform, IsWrittenAndReadTheSameWay) {
  EXPECT_EQ(parse_platform("linux/arm/v7"), (Platform{"arm", "linux", "v7"}));
  EXPECT_EQ(to_string(parse_platform("linux/arm/v7")), "linux/arm/v7");
  EXPECT_EQ(to_string(parse_platform("linux/aarch64")), "linux/arm64");
  for (const auto* wrong :
       {"", "linux", "linux/", "/amd64", "linux/amd64/", "a/b/c/d", "li nux/x"}) {
    EXPECT_THROW(parse_platform(wrong), UsageError) << wrong;
  }
}

TEST(Platform, TheVariantStaysInADescriptor) {
  const auto text = descriptor(R"(,"platform":{"architecture":"arm","os":"linux","variant":"v7"})");
  const auto parsed = parse_descriptor(nlohmann::json::parse(text), "descriptor");
  EXPECT_EQ(parsed.platform, (Platform{"arm", "linux", "v7"}));
  EXPECT_EQ(to_json(parsed)["platform"]["variant"], "v7");
}

}  // namespace
}  // namespace puzzlefs::format
