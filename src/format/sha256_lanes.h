// SHA-256 (FIPS 180-4, section 6.2.2) of two messages at once. The rounds of one message wait for
// each other; those of another one fit into the gaps, so that a second digest costs little. OpenSSL
// offers no such function.
#pragma once

#include <cstddef>
#include <cstdint>

namespace puzzlefs::format {

/// One of the messages.
struct Sha256Lane {
  std::uint32_t* state;     // its eight words, in the order of FIPS 180-4
  const std::byte* blocks;  // of 64 bytes each
};

/// Brings both states on by `count` blocks. Lanes of the same blocks are faster still: what is made
/// of a block before the rounds (the message schedule) then serves both. Returns false, with
/// nothing done, where the processor has no SHA extensions (Intel: "Intel SHA Extensions", 2013).
bool compress_lanes(Sha256Lane first, Sha256Lane second, std::size_t count);

}  // namespace puzzlefs::format
