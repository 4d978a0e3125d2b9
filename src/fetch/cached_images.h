// What of the images that a cache knows by name is in it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "fetch/cache.h"
#include "format/digest.h"

namespace puzzlefs::fetch {

/// What a cache keeps of one or several images: digest → size.
using LayerSizes = std::unordered_map<format::Digest, std::uint64_t>;

/// Adds what the images are made of to which `document`, a manifest or index, leads, as far as the
/// cache has their manifests. Returns whether it has one. Documents that are not what they should
/// be lead nowhere.
bool add_layers(Cache& cache, const format::Digest& document, LayerSizes& layers);

struct CachedImage {
  struct Holding {
    std::uint64_t blobs = 0;
    std::uint64_t bytes = 0;
    std::uint64_t blobs_total = 0;
    std::uint64_t bytes_total = 0;
  };

  std::string name;
  format::Digest digest;  // what the name stands for: a manifest or an index
  bool pinned = false;
  std::optional<Holding> holding;  // nothing if no manifest of the image is there
};

/// The images that are remembered or pinned, by name. A name that stood for something else when it
/// was pinned comes twice.
std::vector<CachedImage> list_images(Cache& cache);

/// What the pinned images take up, whether it is there or not, without the pin `except`.
LayerSizes pinned_layers(Cache& cache, const std::string& except);

}  // namespace puzzlefs::fetch
