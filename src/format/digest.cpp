// OpenSSL 3 calls these functions deprecated. What it wants to be used instead reads openssl.cnf
// and sets up all algorithms for the first digest of a process, which takes longer than all other
// hashing of a mount.
#define OPENSSL_SUPPRESS_DEPRECATED

#include "format/digest.h"

#include "format/error.h"

namespace puzzlefs::format {

namespace {

constexpr std::string_view kHexDigits = "0123456789abcdef";
constexpr std::string_view kPrefix = "sha256:";

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

Digest sha256(ByteView data) {
  Sha256 hash;
  hash.update(data);
  return hash.finish();
}

}  // namespace puzzlefs::format
