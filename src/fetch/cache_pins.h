// Images whose blobs stay in the cache whatever else has to go.
#pragma once

#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <unordered_set>
#include <vector>

#include "fetch/kept_blobs.h"
#include "format/bytes.h"
#include "format/digest.h"

namespace puzzlefs::fetch {

struct Pin {
  std::string name;      // "registry.example/debian:12"
  format::Digest named;  // what the name stood for: a manifest or an index
  format::Digest manifest;
};

/// Each pin is a file, so that it outlives a broken index. Thread-safe: it holds no state but the
/// directory, and files appear by rename.
class CachePins {
 public:
  explicit CachePins(std::filesystem::path directory) : directory_(std::move(directory)) {}

  /// Pins an image, or the name anew. Throws Error.
  void add(const Pin& pin) const;
  /// The pin of that name, if there is one that can be read.
  std::optional<Pin> find(const std::string& name) const;
  /// Returns whether there was such a pin. Throws Error.
  bool remove(const std::string& name) const;
  /// All pins, by name. Files that cannot be read are passed over.
  std::vector<Pin> list() const;

  /// All that the pinned images are made of, by their manifests, and the indexes that these were
  /// found in, as `read` gives them.
  std::unordered_set<format::Digest> blobs(const ReadBlob& read) const;

 private:
  std::filesystem::path file_of(const std::string& name) const;

  std::filesystem::path directory_;
};

}  // namespace puzzlefs::fetch
