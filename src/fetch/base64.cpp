// Base64 (RFC 4648) by OpenSSL.
#include "fetch/base64.h"

#include <openssl/evp.h>

namespace puzzlefs::fetch {
namespace {

// Well below what OpenSSL counts in an int.
constexpr std::size_t kMaxSize = 1 << 20;

const unsigned char* as_unsigned(const std::string& text) {
  return reinterpret_cast<const unsigned char*>(text.data());
}
unsigned char* as_unsigned(std::string& text) {
  return reinterpret_cast<unsigned char*>(text.data());
}

}  // namespace

std::string base64_encode(std::string_view data) {
  const std::string input(data.substr(0, kMaxSize));
  std::string result((input.size() + 2) / 3 * 4 + 1, '\0');  // OpenSSL adds a NUL
  const int size =
      EVP_EncodeBlock(as_unsigned(result), as_unsigned(input), static_cast<int>(input.size()));
  result.resize(static_cast<std::size_t>(size));
  return result;
}

std::optional<std::string> base64_decode(std::string_view text) {
  while (text.ends_with('=')) text.remove_suffix(1);
  if (text.size() > kMaxSize || text.size() % 4 == 1) return std::nullopt;
  constexpr std::string_view kAlphabet =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  if (text.find_first_not_of(kAlphabet) != std::string_view::npos) return std::nullopt;
  std::string input(text);
  const std::size_t padding = (4 - input.size() % 4) % 4;
  input.append(padding, '=');
  std::string result(input.size() / 4 * 3, '\0');
  const int size =
      EVP_DecodeBlock(as_unsigned(result), as_unsigned(input), static_cast<int>(input.size()));
  if (size < 0) return std::nullopt;
  result.resize(static_cast<std::size_t>(size) - padding);  // OpenSSL counts the padding
  return result;
}

}  // namespace puzzlefs::fetch
