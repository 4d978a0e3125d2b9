#include "build/chunk_order.h"

#include <utility>

namespace puzzlefs::build {

ChunkOrder::ChunkOrder(const std::vector<format::InodeRecord>& tree,
                       const std::vector<format::Digest>& hot) {
  for (const format::InodeRecord& inode : tree) {
    for (const format::ChunkRef& piece : inode.chunks) {
      if (places_.try_emplace({piece.blob, piece.compressed}, chunks_.size()).second)
        chunks_.push_back(piece);
    }
  }
  if (!hot.empty()) put_first(hot);
}

std::size_t ChunkOrder::place(const format::ChunkRef& piece) const {
  return places_.at({piece.blob, piece.compressed});
}

void ChunkOrder::put_first(const std::vector<format::Digest>& hot) {
  std::vector<format::ChunkRef> ordered;
  ordered.reserve(chunks_.size());
  std::vector<bool> is_hot(chunks_.size());
  for (const format::Digest& digest : hot) {
    bool known = false;
    for (const bool compressed : {false, true}) {
      const auto found = places_.find({digest, compressed});
      if (found == places_.end()) continue;
      known = true;
      if (is_hot[found->second]) continue;
      is_hot[found->second] = true;
      ordered.push_back(chunks_[found->second]);
    }
    if (!known) ++unknown_count_;
  }
  hot_count_ = ordered.size();
  for (std::size_t i = 0; i < chunks_.size(); ++i)
    if (!is_hot[i]) ordered.push_back(chunks_[i]);
  chunks_ = std::move(ordered);
  for (std::size_t i = 0; i < chunks_.size(); ++i)
    places_[{chunks_[i].blob, chunks_[i].compressed}] = i;
}

}  // namespace puzzlefs::build
