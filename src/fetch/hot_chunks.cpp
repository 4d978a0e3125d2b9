#include "fetch/hot_chunks.h"

#include <algorithm>
#include <unordered_map>
#include <unordered_set>

namespace puzzlefs::fetch {

std::vector<std::size_t> hot_places(const format::Metadata& metadata) {
  std::vector<std::uint64_t> hot_sizes;
  for (std::uint32_t i = 0; i < metadata.pack_count(); ++i) {
    hot_sizes.push_back(metadata.pack(i).hot_size);
  }
  const auto is_zero = [](std::uint64_t size) { return size == 0; };
  if (std::all_of(hot_sizes.begin(), hot_sizes.end(), is_zero)) return {};
  std::vector<std::size_t> places;
  for (std::uint32_t i = 0; i < metadata.chunk_count(); ++i) {
    const auto chunk = metadata.chunk(format::ChunkIndex{i});
    if (chunk.offset < hot_sizes.at(chunk.pack)) places.push_back(i);
  }
  return places;
}

std::vector<BackgroundPlan::Chunk> chunks_of(const format::Metadata& metadata,
                                             const format::Manifest& manifest,
                                             const std::string& name) {
  std::vector<BackgroundPlan::Chunk> chunks;
  if (metadata.pack_count() > 0) {
    const auto count = metadata.chunk_count();
    for (std::uint32_t i = 0; i < count; ++i) {
      const auto chunk = metadata.chunk(format::ChunkIndex{i});
      chunks.push_back({chunk.digest, chunk.stored_size, chunk.size});
    }
    return chunks;
  }
  std::unordered_set<format::Digest> known = {format::metadata_layer(manifest, name).digest};
  for (const auto& layer : manifest.layers) {
    if (known.insert(layer.digest).second) chunks.push_back({layer.digest, layer.size, layer.size});
  }
  return chunks;
}

std::vector<std::size_t> places_of(const format::Trace& trace,
                                   const std::vector<BackgroundPlan::Chunk>& chunks) {
  std::unordered_map<format::Digest, std::size_t> by_digest;
  for (std::size_t i = 0; i < chunks.size(); ++i) by_digest.emplace(chunks[i].digest, i);
  std::vector<std::size_t> places;
  for (const auto& digest : trace.chunks) {
    const auto found = by_digest.find(digest);
    if (found == by_digest.end()) continue;
    places.push_back(found->second);
    by_digest.erase(found);
  }
  return places;
}

}  // namespace puzzlefs::fetch
