#include "format/sha256_lanes.h"

#if defined(__x86_64__)

#include <cpuid.h>
#include <immintrin.h>

#include <array>

#define PUZZLEFS_SHA __attribute__((target("sha,sse4.1"), always_inline)) inline

namespace puzzlefs::format {
namespace {

constexpr std::size_t kBlockSize = 64;

// FIPS 180-4, section 4.2.2.
alignas(16) constexpr std::array<std::uint32_t, 64> kRoundConstants = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

bool has_sha_extensions() {
  unsigned eax = 0;
  unsigned ebx = 0;
  unsigned ecx = 0;
  unsigned edx = 0;
  if (__get_cpuid(1, &eax, &ebx, &ecx, &edx) == 0 || (ecx & bit_SSE4_1) == 0) return false;
  return __get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) != 0 && (ebx & bit_SHA) != 0;
}

// The state as the instructions take it: words A, B, E, F and C, D, G, H, the first in the highest
// place.
struct State {
  __m128i abef;
  __m128i cdgh;
};

PUZZLEFS_SHA State load(const std::uint32_t* words) {
  const auto* vectors = reinterpret_cast<const __m128i*>(words);
  const __m128i cdab = _mm_shuffle_epi32(_mm_loadu_si128(vectors), 0xB1);
  const __m128i efgh = _mm_shuffle_epi32(_mm_loadu_si128(vectors + 1), 0x1B);
  return {_mm_alignr_epi8(cdab, efgh, 8), _mm_blend_epi16(efgh, cdab, 0xF0)};
}

PUZZLEFS_SHA void store(const State& state, std::uint32_t* words) {
  auto* vectors = reinterpret_cast<__m128i*>(words);
  const __m128i feba = _mm_shuffle_epi32(state.abef, 0x1B);
  const __m128i dchg = _mm_shuffle_epi32(state.cdgh, 0xB1);
  _mm_storeu_si128(vectors, _mm_blend_epi16(feba, dchg, 0xF0));
  _mm_storeu_si128(vectors + 1, _mm_alignr_epi8(dchg, feba, 8));
}

PUZZLEFS_SHA void add(State& state, const State& other) {
  state.abef = _mm_add_epi32(state.abef, other.abef);
  state.cdgh = _mm_add_epi32(state.cdgh, other.cdgh);
}

// Sixteen words of the message schedule, of which four rounds replace four.
struct Schedule {
  __m128i words[4];
};

PUZZLEFS_SHA Schedule read_block(const std::byte* block) {
  const __m128i big_endian = _mm_set_epi64x(0x0c0d0e0f08090a0b, 0x0405060700010203);
  const auto* vectors = reinterpret_cast<const __m128i*>(block);
  Schedule schedule;
  for (int i = 0; i < 4; ++i)
    schedule.words[i] = _mm_shuffle_epi8(_mm_loadu_si128(vectors + i), big_endian);
  return schedule;
}

// What four rounds add, with `step` counting them by fours.
PUZZLEFS_SHA __m128i round_words(const Schedule& schedule, int step) {
  const auto* constants = reinterpret_cast<const __m128i*>(kRoundConstants.data());
  return _mm_add_epi32(schedule.words[step & 3], _mm_load_si128(constants + step));
}

PUZZLEFS_SHA void extend(Schedule& schedule, int step) {
  auto& words = schedule.words;
  const __m128i earlier = _mm_alignr_epi8(words[(step + 3) & 3], words[(step + 2) & 3], 4);
  const __m128i sum = _mm_sha256msg1_epu32(words[step & 3], words[(step + 1) & 3]);
  words[step & 3] = _mm_sha256msg2_epu32(_mm_add_epi32(sum, earlier), words[(step + 3) & 3]);
}

template <bool kSameBlocks>
__attribute__((target("sha,sse4.1"))) void compress(Sha256Lane first, Sha256Lane second,
                                                    std::size_t count) {
  State a = load(first.state);
  State b = load(second.state);
  for (; count > 0; --count) {
    const State a_before = a;
    const State b_before = b;
    Schedule a_schedule = read_block(first.blocks);
    Schedule b_schedule;
    if constexpr (!kSameBlocks) b_schedule = read_block(second.blocks);
#pragma GCC unroll 16
    for (int step = 0; step < 16; ++step) {
      __m128i a_words = round_words(a_schedule, step);
      __m128i b_words = a_words;
      if constexpr (!kSameBlocks) b_words = round_words(b_schedule, step);
      a.cdgh = _mm_sha256rnds2_epu32(a.cdgh, a.abef, a_words);
      b.cdgh = _mm_sha256rnds2_epu32(b.cdgh, b.abef, b_words);
      a_words = _mm_shuffle_epi32(a_words, 0x0E);
      b_words = kSameBlocks ? a_words : _mm_shuffle_epi32(b_words, 0x0E);
      a.abef = _mm_sha256rnds2_epu32(a.abef, a.cdgh, a_words);
      b.abef = _mm_sha256rnds2_epu32(b.abef, b.cdgh, b_words);
      if (step >= 12) continue;
      extend(a_schedule, step);
      if constexpr (!kSameBlocks) extend(b_schedule, step);
    }
    add(a, a_before);
    add(b, b_before);
    first.blocks += kBlockSize;
    second.blocks += kBlockSize;
  }
  store(a, first.state);
  store(b, second.state);
}

}  // namespace

bool compress_lanes(Sha256Lane first, Sha256Lane second, std::size_t count) {
  static const bool is_possible = has_sha_extensions();
  if (!is_possible) return false;
  if (first.blocks == second.blocks)
    compress<true>(first, second, count);
  else
    compress<false>(first, second, count);
  return true;
}

}  // namespace puzzlefs::format

#undef PUZZLEFS_SHA

#else

namespace puzzlefs::format {

bool compress_lanes(Sha256Lane, Sha256Lane, std::size_t) {
  return false;
}

}  // namespace puzzlefs::format

#endif
