#include "format/digest.h"

#include <openssl/evp.h>

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

void Sha256::Free::operator()(EVP_MD_CTX* context) const {
  EVP_MD_CTX_free(context);
}

Sha256::Sha256() : context_(EVP_MD_CTX_new()) {
  // Fetched once: OpenSSL 3 otherwise looks the algorithm up at every init.
  static const EVP_MD* const algorithm = EVP_MD_fetch(nullptr, "SHA256", nullptr);
  if (!context_ || !algorithm || EVP_DigestInit_ex2(context_.get(), algorithm, nullptr) != 1)
    throw Error(ENOMEM, "OpenSSL offers no SHA-256 here; check its configuration.");
}

void Sha256::update(ByteView data) {
  EVP_DigestUpdate(context_.get(), data.data(), data.size());
}

Digest Sha256::finish() {
  Digest digest;
  EVP_DigestFinal_ex(context_.get(), reinterpret_cast<unsigned char*>(digest.value_.data()),
                     nullptr);
  EVP_DigestInit_ex2(context_.get(), nullptr, nullptr);
  return digest;
}

Digest sha256(ByteView data) {
  Sha256 hash;
  hash.update(data);
  return hash.finish();
}

}  // namespace puzzlefs::format
