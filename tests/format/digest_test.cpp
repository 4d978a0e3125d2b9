// Digests and fs-verity digests against values made by other programs.
#include "format/digest.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <span>
#include <string>

#include "format/error.h"
#include "format/verity.h"

namespace puzzlefs::format {
namespace {

// From the specification of the format (doc/format.md, "Known answers").
constexpr std::string_view kLorem = "Lorem ipsum dolor sit amet\n";
constexpr std::string_view kLoremHex =
    "b7f1ee9373416a49835747455ec4d287bcccc5a4bf8c38156483d46b35ce4dbd";
constexpr std::string_view kLoremVerity =
    "5b1434ad2c081ff435b210792e900e27021ec42b68e68f62dbad52dfe0c9f7a4";

Bytes pattern(std::size_t size) {
  Bytes bytes(size);
  for (std::size_t i = 0; i < size; ++i) bytes[i] = static_cast<std::byte>(i * 31 >> 3);
  return bytes;
}

TEST(Digest, OfAKnownText) {
  EXPECT_EQ(sha256(as_bytes(kLorem)).hex(), kLoremHex);
}

TEST(Digest, TextFormsRoundTrip) {
  const Digest digest = sha256(as_bytes(kLorem));
  EXPECT_EQ(Digest::parse(digest.to_string()), digest);
  EXPECT_EQ(Digest::parse_hex(digest.hex()), digest);
  EXPECT_EQ(Digest::from_bytes(digest.bytes()), digest);
}

TEST(Digest, RefusesMalformedText) {
  const std::string hex(kLoremHex);
  EXPECT_THROW(Digest::parse(hex), CorruptError);
  EXPECT_THROW(Digest::parse("sha512:" + hex), CorruptError);
  EXPECT_THROW(Digest::parse("sha256:" + hex.substr(1)), CorruptError);
  EXPECT_THROW(Digest::parse("sha256:" + hex + "0"), CorruptError);
  EXPECT_THROW(Digest::parse("sha256:G" + hex.substr(1)), CorruptError);
  EXPECT_THROW(Digest::parse("sha256:B" + hex.substr(1)), CorruptError);
  EXPECT_THROW(Digest::from_bytes(as_bytes("short")), CorruptError);
}

TEST(Sha256, IsReusableAfterFinish) {
  Sha256 hash;
  hash.update(as_bytes("something else"));
  hash.finish();
  hash.update(as_bytes(kLorem.substr(0, 10)));
  hash.update(as_bytes(kLorem.substr(10)));
  EXPECT_EQ(hash.finish().hex(), kLoremHex);
}

// Feeds both hashes in steps, so that the second one is `lead` bytes ahead, and compares with
// hashing each alone.
void expect_same_in_steps(const Bytes& first, const Bytes& second, std::size_t lead,
                          std::size_t step) {
  Sha256 first_hash;
  Sha256 second_hash;
  second_hash.update(ByteView(second).first(lead));
  const ByteView rest = ByteView(second).subspan(lead);
  for (std::size_t at = 0; at < std::max(first.size(), rest.size()); at += step) {
    const auto part = [&](ByteView of) {
      return of.subspan(std::min(at, of.size()),
                        std::min(step, of.size() - std::min(at, of.size())));
    };
    update_both(first_hash, part(first), second_hash, part(rest));
  }
  EXPECT_EQ(first_hash.finish(), sha256(first)) << lead << ' ' << step;
  EXPECT_EQ(second_hash.finish(), sha256(second)) << lead << ' ' << step;
}

TEST(Sha256, OfTwoMessagesAtOnce) {
  const Bytes all = pattern(10'000);
  const ByteView view(all);
  for (const std::size_t first : {0U, 1U, 63U, 64U, 65U, 128U, 4096U, 9000U}) {
    for (const std::size_t second : {0U, 1U, 63U, 64U, 65U, 127U, 4096U, 5000U}) {
      const auto same = sha256_of_both(view.first(first), view.first(second));
      EXPECT_EQ(same[0], sha256(view.first(first))) << first << ' ' << second;
      EXPECT_EQ(same[1], sha256(view.first(second))) << first << ' ' << second;
      const auto other = sha256_of_both(view.first(first), view.last(second));
      EXPECT_EQ(other[0], sha256(view.first(first))) << first << ' ' << second;
      EXPECT_EQ(other[1], sha256(view.last(second))) << first << ' ' << second;
    }
  }
}

TEST(Sha256, OfTwoStreamsAtOnce) {
  const Bytes first = pattern(20'000);
  const Bytes second(first.rbegin(), first.rend() - 3000);
  for (const std::size_t lead : {0U, 5U, 64U, 200U}) {
    for (const std::size_t step : {1U, 33U, 64U, 100U, 4096U, 30'000U})
      expect_same_in_steps(first, second, lead, step);
  }
}

// The count of bits outgrows one word.
TEST(Sha256, OfTwoStreamsOfMoreThanHalfAGibibyte) {
  const Bytes part = pattern(std::size_t{1} << 20);
  Sha256 alone;
  Sha256 first;
  Sha256 second;
  for (int i = 0; i < 513; ++i) {
    alone.update(part);
    update_both(first, part, second, part);
  }
  const Digest digest = alone.finish();
  EXPECT_EQ(first.finish(), digest);
  EXPECT_EQ(second.finish(), digest);
}

TEST(BlobHasher, GivesBothDigestsHoweverTheStreamIsCut) {
  const Bytes data = pattern(600'000);
  const auto whole = blob_digests(data);
  EXPECT_EQ(whole.content, sha256(data));
  EXPECT_EQ(whole.verity, verity_digest(data));
  BlobHasher hasher;
  for (const std::size_t step : {1000U, 4095U, 4096U, 5000U, 100'000U}) {
    for (std::size_t at = 0; at < data.size(); at += step)
      hasher.update(ByteView(data).subspan(at, std::min(step, data.size() - at)));
    const auto digests = hasher.finish();
    EXPECT_EQ(digests.content, whole.content) << step;
    EXPECT_EQ(digests.verity, whole.verity) << step;
  }
  EXPECT_EQ(blob_digests({}).content, sha256({}));
  EXPECT_EQ(blob_digests({}).verity, verity_digest({}));
}

TEST(Verity, OfAKnownText) {
  EXPECT_EQ(verity_digest(as_bytes(kLorem)).hex(), kLoremVerity);
}

// Measured by `fsverity digest` 1.5 on files of these sizes; byte i is (i * 31 >> 3) & 255. The
// sizes surround the borders of a data block and of one, two and three levels of the tree.
TEST(Verity, AtTheBordersOfTheTree) {
  const std::pair<std::size_t, std::string_view> known[] = {
      {0, "3d248ca542a24fc62d1c43b916eae5016878e2533c88238480b26128a1f1af95"},
      {1, "b803429503d95915829b29fdbc8bbad142f3abfd11b1cadf5526582e685c0551"},
      {4095, "c4ee0f128fcce003643a7e56269ab830b9e5200fc18b910a5a25446ba02ee4df"},
      {4096, "f127f2e98f8376d68cec810e0ab78d8e77ddf62e48384984a839cbb983078a8d"},
      {4097, "1fb250d97669c8cf43ed5899ce3d12977d6872554bc699164e1be72403470e31"},
      {524288, "a8369e9e7338e860be47fd0d47c3997c17415b5f24a98400d18942ffbf2f57e4"},
      {524289, "7a876a80cb64bf875492b49bff85be01ab3ab6b1a5b73857f33f7d5d1726e674"},
      {67108864, "4e38a632aec0a3bac77a7e698aa33a275d2e4f5864de00967dad82693a74baea"},
      {67108865, "11ef802ba42f72042d251784d0b2e70e8abed79b3aea7fbf6fb818ffcdccf0dd"}};
  const Bytes longest = pattern(known[std::size(known) - 1].first);
  for (const auto& [size, verity] : known) {
    const auto bytes = ByteView(longest).first(size);
    EXPECT_EQ(verity_digest(bytes).hex(), verity) << size;
    const auto leaves = verity_blocks(bytes);
    EXPECT_EQ(verity_digest(leaves, size).hex(), verity) << size;
    if (leaves.size() < 2) continue;
    const auto above = verity_blocks(std::as_bytes(std::span(leaves)));
    EXPECT_EQ(verity_digest(above, size).hex(), verity) << size;
  }
}

TEST(Verity, DoesNotDependOnHowTheStreamIsCut) {
  const Bytes data = pattern(600'000);
  const Digest whole = verity_digest(data);
  for (const std::size_t step : {1000U, 4095U, 4096U, 5000U, 100'000U}) {
    VerityHasher hasher;
    for (std::size_t at = 0; at < data.size(); at += step)
      hasher.update(ByteView(data).subspan(at, std::min(step, data.size() - at)));
    EXPECT_EQ(hasher.finish(), whole) << step;
  }
}

}  // namespace
}  // namespace puzzlefs::format
