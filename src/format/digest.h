// SHA-256 digests, the identity of every blob (OCI image specification, "Digests").
#pragma once

#include <openssl/sha.h>

#include <array>
#include <compare>
#include <cstring>
#include <functional>
#include <string>
#include <string_view>

#include "format/bytes.h"

namespace puzzlefs::format {

/// A SHA-256 value. A plain value type; default-constructed it is all zeros.
class Digest {
 public:
  static constexpr std::size_t kSize = 32;

  constexpr Digest() = default;

  /// From the 32 raw bytes. Throws CorruptError for another length.
  static Digest from_bytes(ByteView raw);
  /// From `sha256:<64 lower-case hex digits>`. Throws CorruptError for anything else.
  static Digest parse(std::string_view text);
  /// From 64 hex digits. Throws CorruptError for anything else.
  static Digest parse_hex(std::string_view hex);

  ByteView bytes() const { return value_; }
  std::string hex() const;
  /// `sha256:<hex>`.
  std::string to_string() const;

  // NOLINTNEXTLINE(modernize-use-nullptr): clang-tidy 14 sees a pointer in the generated code
  auto operator<=>(const Digest&) const = default;

 private:
  friend class Sha256;
  std::array<std::byte, kSize> value_{};
};

/// Hashes a stream. Not thread-safe; reusable after finish().
class Sha256 {
 public:
  Sha256();

  void update(ByteView data);
  /// The digest of all that was given since construction or the last finish().
  Digest finish();

 private:
  friend void update_both(Sha256& first, ByteView first_data, Sha256& second, ByteView second_data);
  SHA256_CTX context_;
};

/// `first.update(first_data)` and `second.update(second_data)` of two hashes, in less time than one
/// after the other takes where the processor can (sha256_lanes.h), least where the data are the
/// same.
void update_both(Sha256& first, ByteView first_data, Sha256& second, ByteView second_data);

/// The digest of `data`.
Digest sha256(ByteView data);
/// The digests of both.
std::array<Digest, 2> sha256_of_both(ByteView first, ByteView second);

}  // namespace puzzlefs::format

template <>
struct std::hash<puzzlefs::format::Digest> {
  std::size_t operator()(const puzzlefs::format::Digest& digest) const noexcept {
    std::size_t head = 0;
    std::memcpy(&head, digest.bytes().data(), sizeof head);
    return head;
  }
};
