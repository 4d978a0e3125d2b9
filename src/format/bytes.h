// Byte sequences, owned and viewed, and their conversion from and to text.
#pragma once

#include <cstddef>
#include <span>
#include <string_view>
#include <vector>

namespace puzzlefs {

using Bytes = std::vector<std::byte>;
using ByteView = std::span<const std::byte>;

/// The bytes of `text`; the view lives as long as the text.
inline ByteView as_bytes(std::string_view text) {
  return std::as_bytes(std::span(text));
}

/// The bytes as text, whatever they are; the view lives as long as the bytes.
inline std::string_view as_text(ByteView bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

}  // namespace puzzlefs
