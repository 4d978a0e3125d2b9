#include "build/fastcdc.h"

#include <algorithm>
#include <optional>

#include "build/gear_table.h"

namespace puzzlefs::build {
namespace {

// The stricter mask before the average size and the looser one after it draw the sizes together
// ("normalised chunking").
constexpr std::uint64_t kStrictMask = 0x0000d90703537000;
constexpr std::uint64_t kLooseMask = 0x0000d90f03530000;

constexpr auto kShiftedGear = [] {
  std::array<std::uint64_t, 256> shifted{};
  std::transform(kGear.begin(), kGear.end(), shifted.begin(), [](auto gear) { return gear << 1; });
  return shifted;
}();

// The first cut under `mask` in the pairs of bytes [begin, end), both even; `hash` is carried on.
// The hash before a pair reaches the one after it through a shift and one addition only, so that
// the processor works on several pairs at once.
template <std::uint64_t mask>
std::optional<std::size_t> find_cut(const std::byte* stream, std::size_t begin, std::size_t end,
                                    std::uint64_t& hash) {
  std::uint64_t current = hash;
  for (std::size_t at = begin; at < end; at += 2) {
    const std::uint64_t first = kShiftedGear[std::to_integer<std::size_t>(stream[at])];
    const std::uint64_t second = kGear[std::to_integer<std::size_t>(stream[at + 1])];
    const std::uint64_t shifted = current << 2;
    if (((shifted + first) & (mask << 1)) == 0) return at;
    current = shifted + (first + second);
    if ((current & mask) == 0) return at + 1;
  }
  hash = current;
  return std::nullopt;
}

}  // namespace

std::size_t first_chunk_size(ByteView stream) {
  const std::size_t remaining = std::min(stream.size(), kLongestChunkSize);
  if (remaining <= kMinChunkSize) return remaining;

  const std::size_t centre = std::min(kAverageChunkSize, remaining) / 2 * 2;
  std::uint64_t hash = 0;
  if (const auto cut = find_cut<kStrictMask>(stream.data(), kMinChunkSize, centre, hash)) {
    return *cut;
  }
  if (const auto cut = find_cut<kLooseMask>(stream.data(), centre, remaining / 2 * 2, hash)) {
    return *cut;
  }
  return remaining;
}

}  // namespace puzzlefs::build
