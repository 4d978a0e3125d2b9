#include "fetch/chunk_presence.h"

namespace puzzlefs::fetch {
namespace {

Presence presence_of(Cache& cache, const format::Digest& chunk) {
  if (cache.has(chunk)) return Presence::kHere;
  const auto claim = cache.claims().claim(chunk);
  if (!claim) return Presence::kComing;
  return cache.has(chunk) ? Presence::kHere : Presence::kAbsent;
}

}  // namespace

Presence presence_of(Cache& cache, const FilePieces& pieces) {
  const format::Digest* last = nullptr;
  for (const auto& piece : pieces) {
    if (last != nullptr && *last == piece.blob) continue;
    last = &piece.blob;
    const auto presence = presence_of(cache, piece.blob);
    if (presence != Presence::kHere) return presence;
  }
  return Presence::kHere;
}

}  // namespace puzzlefs::fetch
