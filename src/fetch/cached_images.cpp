#include "fetch/cached_images.h"

#include <algorithm>
#include <tuple>
#include <unordered_set>
#include <utility>

#include "fetch/choose_manifest.h"
#include "fetch/kept_blobs.h"
#include "format/error.h"
#include "format/oci.h"

namespace puzzlefs::fetch {
namespace {

using Seen = std::unordered_set<format::Digest>;

// A document that is named again and again is read once.
bool add_layers(Cache& cache, const format::Digest& digest, int depth, Seen& seen,
                LayerSizes& layers) {
  if (!seen.insert(digest).second) return false;
  const auto document = cache.read(digest);
  if (!document) return false;
  const auto title = digest.to_string();
  if (!format::is_index(format::media_type_of(*document, title))) {
    const auto manifest = format::parse_manifest(*document, title);
    const auto read = [&cache](const format::Digest& blob) { return cache.read(blob); };
    for (const auto& blob : kept_blobs(manifest, read)) layers.emplace(blob.digest, blob.size);
    return true;
  }
  bool found = false;
  if (depth == 0) return found;
  for (const auto& entry : format::parse_index(*document, title).manifests) {
    // Most of them were never fetched, being for other machines.
    if (add_layers(cache, entry.digest, depth - 1, seen, layers)) found = true;
  }
  return found;
}

std::optional<CachedImage::Holding> holding_of(Cache& cache, const format::Digest& digest) {
  LayerSizes layers;
  if (!add_layers(cache, digest, layers)) return std::nullopt;
  CachedImage::Holding holding;
  for (const auto& [layer, size] : layers) {
    ++holding.blobs_total;
    holding.bytes_total += size;
    if (!cache.has(layer)) continue;
    ++holding.blobs;
    holding.bytes += size;
  }
  return holding;
}

}  // namespace

bool add_layers(Cache& cache, const format::Digest& document, LayerSizes& layers) {
  try {
    Seen seen;
    return add_layers(cache, document, kMaxIndexDepth, seen, layers);
  } catch (const CorruptError&) {
    return false;
  }
}

std::vector<CachedImage> list_images(Cache& cache) {
  std::vector<CachedImage> images;
  for (const auto& pin : cache.pins().list()) {
    // Of an index one image is pinned, and others may be there.
    images.push_back({pin.name, pin.named, true, holding_of(cache, pin.manifest)});
  }
  for (auto& [name, digest] : cache.names()) {
    const bool pinned = std::any_of(images.begin(), images.end(), [&](const CachedImage& pin) {
      return pin.name == name && pin.digest == digest;
    });
    if (pinned) continue;
    auto holding = holding_of(cache, digest);
    images.push_back({std::move(name), digest, false, holding});
  }
  std::sort(images.begin(), images.end(), [](const CachedImage& a, const CachedImage& b) {
    return std::tie(a.name, b.pinned) < std::tie(b.name, a.pinned);
  });
  return images;
}

LayerSizes pinned_layers(Cache& cache, const std::string& except) {
  LayerSizes layers;
  for (const auto& pin : cache.pins().list()) {
    if (pin.name != except) add_layers(cache, pin.manifest, layers);
  }
  return layers;
}

}  // namespace puzzlefs::fetch
