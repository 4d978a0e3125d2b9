// Base64 (RFC 4648) by OpenSSL.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace puzzlefs::fetch {

std::string base64_encode(std::string_view data);
/// Nothing for what is not base64. Padding may be missing.
std::optional<std::string> base64_decode(std::string_view text);

}  // namespace puzzlefs::fetch
