// FastCDC: where a stream is cut into chunks, by its content alone, so that a change moves only the
// cuts near it. The 2020 variant (two bytes a step, normalisation level 1) with the parameters of
// format version 3; doc/format.md has the definition.
#pragma once

#include "format/bytes.h"

namespace puzzlefs::build {

inline constexpr std::size_t kMinChunkSize = 16 << 10;
inline constexpr std::size_t kAverageChunkSize = 64 << 10;
/// The longest chunk that is cut; format::kMaxChunkSize is what readers accept.
inline constexpr std::size_t kLongestChunkSize = 256 << 10;

/// The size of the first chunk of `stream`, which must hold the next kLongestChunkSize bytes of the
/// stream or all that is left of it. 0 only for an empty stream.
std::size_t first_chunk_size(ByteView stream);

}  // namespace puzzlefs::build
