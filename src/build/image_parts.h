// What an image consists of: its manifest, or an index with the manifests of several, and blobs.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "fetch/choose_manifest.h"
#include "format/oci.h"

namespace puzzlefs::build {

/// How many manifests and indexes an index may name, itself or by nested ones: all are in memory.
inline constexpr std::size_t kMaxDocuments = 128;
/// The largest blob of an image that is not PuzzleFS's which is held in memory.
inline constexpr std::uint64_t kMaxForeignBlobSize = std::uint64_t{1} << 30;

struct ImageParts {
  fetch::Document top;
  /// Those that `top` names, itself or by a nested index: each once, and before what names it.
  std::vector<fetch::Document> documents;
  /// Of all manifests, each once.
  std::vector<format::Descriptor> blobs;
};

/// Follows all that `top` names; `name` is the image's, for messages. Throws CorruptError for what
/// is neither manifest nor index, and Error for more than kMaxDocuments.
ImageParts collect_parts(fetch::Document top, const std::string& name,
                         const fetch::DocumentReader& read);

/// The blobs that a manifest names, each once, in its order.
std::vector<format::Descriptor> distinct_blobs(const format::Manifest& manifest);

/// Throws CorruptError for a blob that is larger than one may be that is held in memory:
/// of a PuzzleFS image what its readers take, of another kMaxForeignBlobSize.
void check_blob_sizes(const ImageParts& parts, const std::string& name);

}  // namespace puzzlefs::build
