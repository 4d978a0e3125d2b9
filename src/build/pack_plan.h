// How large packs are, and which packs of an image are still worth having in the next one.
#pragma once

#include <cstdint>
#include <vector>

namespace puzzlefs::build {

/// At how many stored bytes a pack is full.
inline constexpr std::uint64_t kPackSize = 32 << 20;
/// The most packs that an image has: its manifest stays small, and so does a mount's table of them.
inline constexpr std::uint32_t kMaxPacks = 256;

/// At how many bytes the pack with this index in its image is full, where the first one is at
/// `first`. They grow so fast towards kMaxPacks that there is no image for which they do not do.
std::uint64_t full_pack_size(std::uint32_t index, std::uint64_t first);

/// What a new image wants of a pack of the image it is built upon.
struct PackUse {
  std::uint64_t size = 0;
  std::uint64_t live = 0;  // stored bytes of the chunks that are in the new image too
};

/// What is known of the packs that are written anew.
struct NewPacks {
  std::uint32_t count = 0;      // with the one that is still open
  std::uint64_t room = 0;       // in the open one
  std::uint64_t full_size = 0;  // of those to come, at least
  std::uint32_t limit = kMaxPacks;
};

/// Which packs are kept, by index. The rest have nothing that is wanted, or their live chunks are
/// stored anew: those with the smallest live share, the smaller ones first, until at least half of
/// the bytes of the packs kept are live and the image has no more packs than `limit`.
std::vector<bool> choose_packs(const std::vector<PackUse>& packs, const NewPacks& new_packs);

}  // namespace puzzlefs::build
