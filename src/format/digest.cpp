// OpenSSL 3 calls these functions deprecated. What it wants to be used instead reads openssl.cnf
// and sets up all algorithms for the first digest of a process, which takes longer than all other
// hashing of a mount.
#define OPENSSL_SUPPRESS_DEPRECATED

#include "format/digest.h"

#include <algorithm>
#include <cstdint>

#include "format/error.h"
#include "format/sha256_lanes.h"

namespace puzzlefs::format {

namespace {

constexpr std::string_view kHexDigits = "0123456789abcdef";
constexpr std::string_view kPrefix = "sha256:";

// The context counts bits, in two words.
void count_hashed(SHA256_CTX& context, std::size_t bytes) {
  const std::uint64_t bits =
      (std::uint64_t{context.Nh} << 32 | context.Nl) + std::uint64_t{bytes} * 8;
  context.Nl = static_cast<SHA_LONG>(bits);
  context.Nh = static_cast<SHA_LONG>(bits >> 32);
}

}  // namespace

Digest Digest::from_bytes(ByteView raw) {
  if (raw.size() != kSize)
    throw CorruptError("A digest has " + std::to_string(raw.size()) + " bytes instead of 32.");
  Digest digest;
  std::memcpy(digest.value_.data(), raw.data(), kSize);
  return digest;
}

Digest Digest::parse(std::string_view text) {
  if (!text.starts_with(kPrefix))
    throw CorruptError("The digest \"" + std::string(text.substr(0, 80)) +
                       "\" is not of the form sha256:<64 hex digits>.");
  return parse_hex(text.substr(kPrefix.size()));
}

Digest Digest::parse_hex(std::string_view hex) {
  Digest digest;
  bool good = hex.size() == 2 * kSize;
  for (std::size_t i = 0; good && i < hex.size(); ++i) {
    const auto nibble = kHexDigits.find(hex[i]);
    good = nibble != std::string_view::npos;
    digest.value_[i / 2] = (digest.value_[i / 2] << 4) | static_cast<std::byte>(nibble);
  }
  if (!good)
    throw CorruptError("The digest \"" + std::string(hex.substr(0, 80)) +
                       "\" is not 64 lower-case hex digits.");
  return digest;
}

std::string Digest::hex() const {
  std::string hex;
  hex.reserve(2 * kSize);
  for (const std::byte byte : value_) {
    hex += kHexDigits[std::to_integer<unsigned>(byte) >> 4];
    hex += kHexDigits[std::to_integer<unsigned>(byte) & 15];
  }
  return hex;
}

std::string Digest::to_string() const {
  return std::string(kPrefix) + hex();
}

Sha256::Sha256() {
  SHA256_Init(&context_);
}

void Sha256::update(ByteView data) {
  SHA256_Update(&context_, data.data(), data.size());
}

Digest Sha256::finish() {
  Digest digest;
  SHA256_Final(reinterpret_cast<unsigned char*>(digest.value_.data()), &context_);
  SHA256_Init(&context_);
  return digest;
}

void update_both(Sha256& first, ByteView first_data, Sha256& second, ByteView second_data) {
  const auto update_alone = [&](std::size_t size) {
    first.update(first_data.first(size));
    second.update(second_data.first(size));
    first_data = first_data.subspan(size);
    second_data = second_data.subspan(size);
  };
  std::size_t common = std::min(first_data.size(), second_data.size());
  const std::size_t buffered = first.context_.num;
  if (buffered != 0 && buffered == second.context_.num) {
    const std::size_t missing = std::min(common, SHA256_CBLOCK - buffered);
    update_alone(missing);
    common -= missing;
  }
  const std::size_t blocks = common / SHA256_CBLOCK;
  const bool at_blocks = first.context_.num == 0 && second.context_.num == 0;
  if (blocks > 0 && at_blocks &&
      compress_lanes({first.context_.h, first_data.data()}, {second.context_.h, second_data.data()},
                     blocks)) {
    const std::size_t size = blocks * SHA256_CBLOCK;
    count_hashed(first.context_, size);
    count_hashed(second.context_, size);
    first_data = first_data.subspan(size);
    second_data = second_data.subspan(size);
  }
  first.update(first_data);
  second.update(second_data);
}

Digest sha256(ByteView data) {
  Sha256 hash;
  hash.update(data);
  return hash.finish();
}

std::array<Digest, 2> sha256_of_both(ByteView first, ByteView second) {
  Sha256 first_hash;
  Sha256 second_hash;
  update_both(first_hash, first, second_hash, second);
  return {first_hash.finish(), second_hash.finish()};
}

}  // namespace puzzlefs::format
