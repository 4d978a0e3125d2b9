#include "fetch/kept_blobs.h"

#include <algorithm>
#include <unordered_set>

#include "fetch/stored_metadata.h"

namespace puzzlefs::fetch {

bool is_packed(const format::Manifest& manifest) {
  if (!format::has_metadata(manifest)) return false;
  return manifest.layers.front().media_type == format::kRootfsZstdType ||
         std::any_of(manifest.layers.begin(), manifest.layers.end(),
                     [](const auto& layer) { return layer.media_type == format::kPackType; });
}

std::vector<format::Descriptor> plain_chunks(const format::Metadata& metadata) {
  std::vector<format::Descriptor> chunks;
  std::unordered_set<format::Digest> seen;
  const auto count = metadata.chunk_count();
  for (std::uint32_t i = 0; i < count; ++i) {
    const auto chunk = metadata.chunk(format::ChunkIndex{i});
    if (!seen.insert(chunk.digest).second) continue;
    chunks.push_back({.digest = chunk.digest, .size = chunk.size});
  }
  return chunks;
}

std::vector<format::Descriptor> kept_blobs(const format::Manifest& manifest, const ReadBlob& read) {
  if (!is_packed(manifest)) return manifest.layers;
  auto metadata = plain_metadata(manifest.layers.front());
  std::vector<format::Descriptor> blobs;
  if (const auto bytes = read(metadata.digest)) {
    blobs = plain_chunks(format::Metadata(*bytes));
  }
  blobs.push_back(std::move(metadata));
  return blobs;
}

}  // namespace puzzlefs::fetch
