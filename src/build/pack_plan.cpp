#include "build/pack_plan.h"

#include <algorithm>
#include <cstddef>
#include <utility>

namespace puzzlefs::build {
namespace {

// A small image changes in small packs. Then they are twice as large, for each costs a push three
// requests, up to about 8 GiB. From then on each 32 are twice as large as those before, and the
// last 32 each twice as large as the one before.
constexpr std::uint32_t kSmallPacks = 4;
constexpr std::uint32_t kEqualPacks = 128;
constexpr std::uint32_t kPacksPerStep = 32;
constexpr std::uint32_t kLastPacks = kMaxPacks - kPacksPerStep;
constexpr std::uint32_t kMaxDoublings = 32;  // of 32 MiB: far beyond any file, and no overflow

double live_share(const PackUse& pack) {
  return static_cast<double>(pack.live) / static_cast<double>(pack.size);
}

bool is_poorer(const PackUse& a, const PackUse& b) {
  return std::pair(live_share(a), a.size) < std::pair(live_share(b), b.size);
}

// Packs that `moved` bytes need beside those there are.
std::uint64_t packs_for(std::uint64_t moved, const NewPacks& new_packs) {
  if (moved <= new_packs.room) return 0;
  return 1 + (moved - new_packs.room - 1) / new_packs.full_size;
}

}  // namespace

std::uint64_t full_pack_size(std::uint32_t index, std::uint64_t first) {
  std::uint32_t doublings = index < kSmallPacks ? 0 : 1;
  if (index >= kEqualPacks)
    doublings += 1 + (std::min(index, kLastPacks - 1) - kEqualPacks) / kPacksPerStep;
  if (index >= kLastPacks) doublings += 1 + (index - kLastPacks);
  return first << std::min(doublings, kMaxDoublings);
}

std::vector<bool> choose_packs(const std::vector<PackUse>& packs, const NewPacks& new_packs) {
  std::vector<bool> kept(packs.size());
  std::vector<std::size_t> order;  // the poorest first
  std::uint64_t size = 0;
  std::uint64_t live = 0;
  for (std::size_t i = 0; i < packs.size(); ++i) {
    if (packs[i].live == 0) continue;
    kept[i] = true;
    order.push_back(i);
    size += packs[i].size;
    live += packs[i].live;
  }
  std::stable_sort(order.begin(), order.end(),
                   [&](std::size_t a, std::size_t b) { return is_poorer(packs[a], packs[b]); });

  std::uint64_t moved = 0;
  std::size_t dropped = 0;
  const auto is_too_much = [&] {
    const std::uint64_t count =
        order.size() - dropped + new_packs.count + packs_for(moved, new_packs);
    return live < size / 2 + size % 2 || count > new_packs.limit;
  };
  for (; dropped < order.size() && is_too_much(); ++dropped) {
    const PackUse& pack = packs[order[dropped]];
    kept[order[dropped]] = false;
    size -= pack.size;
    live -= pack.live;
    moved += pack.live;
  }
  return kept;
}

}  // namespace puzzlefs::build
