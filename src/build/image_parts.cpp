#include "build/image_parts.h"

#include <spdlog/fmt/fmt.h>

#include <cerrno>
#include <unordered_set>
#include <utility>

#include "fetch/cache.h"
#include "fetch/chunk_store.h"
#include "format/error.h"

namespace puzzlefs::build {
namespace {

using fetch::Document;
using format::Descriptor;

class Collector {
 public:
  Collector(const std::string& name, const fetch::DocumentReader& read)
      : name_(name), read_(read) {}

  ImageParts collect(Document top) {
    visit(top, 0);
    parts_.top = std::move(top);
    return std::move(parts_);
  }

 private:
  // Recursion is bounded by check_index_depth().
  void visit(Document& document, int depth) {
    const auto title = fetch::title_of(document.descriptor.digest, name_);
    auto& type = document.descriptor.media_type;
    type = format::media_type_of(document.bytes, title);
    if (format::is_manifest(type)) {
      for (auto& blob : distinct_blobs(format::parse_manifest(document.bytes, title))) {
        if (seen_blobs_.insert(blob.digest).second) parts_.blobs.push_back(std::move(blob));
      }
    } else if (format::is_index(type)) {
      fetch::check_index_depth(depth, title);
      for (const auto& entry : format::parse_index(document.bytes, title).manifests) {
        visit_entry(entry, depth + 1);
      }
    } else {
      throw CorruptError(
          fmt::format("{} is not the manifest of an image, nor an index of such.", title));
    }
  }

  void visit_entry(const Descriptor& entry, int depth) {
    if (!seen_documents_.insert(entry.digest).second) return;
    if (seen_documents_.size() > kMaxDocuments) {
      throw Error(E2BIG, fmt::format("{} is an index of more than {} images. Choose one with "
                                     "--platform.",
                                     name_, kMaxDocuments));
    }
    Document document = read_(entry);
    visit(document, depth);
    parts_.documents.push_back(std::move(document));
  }

  const std::string& name_;
  const fetch::DocumentReader& read_;
  ImageParts parts_;
  std::unordered_set<format::Digest> seen_documents_;
  std::unordered_set<format::Digest> seen_blobs_;
};

// Packs are as large as their images want them, far larger than chunks beyond some gigabytes. More
// than kMaxBlobSize no reader takes of any blob.
std::uint64_t most_of_ours(const Descriptor& layer, bool is_metadata) {
  if (is_metadata || layer.media_type == format::kPackType) return fetch::kMaxBlobSize;
  return fetch::kMaxStoredChunkSize;
}

void check_manifest(const format::Manifest& manifest, const std::string& name) {
  const auto check = [&name](const Descriptor& blob, std::uint64_t most) {
    if (blob.size <= most) return;
    throw CorruptError(
        fmt::format("{} says that its blob {} has {} bytes. More than {} are not accepted.", name,
                    blob.digest.to_string(), blob.size, most));
  };
  const bool is_ours = format::has_metadata(manifest);
  for (const auto& layer : manifest.layers) {
    const bool is_first = &layer == &manifest.layers.front();
    check(layer, is_ours ? most_of_ours(layer, is_first) : kMaxForeignBlobSize);
  }
  check(manifest.config, is_ours ? format::kMaxManifestSize : kMaxForeignBlobSize);
}

}  // namespace

ImageParts collect_parts(Document top, const std::string& name, const fetch::DocumentReader& read) {
  return Collector(name, read).collect(std::move(top));
}

std::vector<Descriptor> distinct_blobs(const format::Manifest& manifest) {
  std::vector<Descriptor> blobs;
  std::unordered_set<format::Digest> seen;
  for (const auto& layer : manifest.layers) {
    if (seen.insert(layer.digest).second) blobs.push_back(layer);
  }
  if (seen.insert(manifest.config.digest).second) blobs.push_back(manifest.config);
  return blobs;
}

void check_blob_sizes(const ImageParts& parts, const std::string& name) {
  const auto check = [&name](const Document& document) {
    if (!format::is_manifest(document.descriptor.media_type)) return;
    check_manifest(
        format::parse_manifest(document.bytes, fetch::title_of(document.descriptor.digest, name)),
        name);
  };
  check(parts.top);
  for (const auto& document : parts.documents) check(document);
}

}  // namespace puzzlefs::build
