#include "build/image_documents.h"

#include <spdlog/spdlog.h>

#include <optional>
#include <utility>

#include "format/verity.h"
#include "format/zstd_frame.h"

namespace puzzlefs::build {
namespace {

// Every mount of an image that is not cached waits for its metadata, which is small beside the
// packs.
constexpr int kMetadataLevel = 9;

format::Descriptor write_metadata_blob(const fetch::Layout& layout, std::string_view media_type,
                                       const Bytes& bytes) {
  auto layer = write_blob(layout, media_type, bytes);
  layer.annotations.emplace(format::kVerityAnnotation, format::verity_digest(bytes).hex());
  return layer;
}

std::string write_manifest(const fetch::Layout& layout, std::vector<format::Descriptor> layers) {
  write_blob(layout, format::kEmptyType, as_bytes(format::kEmptyConfigBlob));
  format::Manifest manifest;
  manifest.config = format::empty_config();
  manifest.layers = std::move(layers);
  return format::to_json_text(manifest);
}

format::Descriptor describe(std::string_view media_type, const format::Digest& digest,
                            std::uint64_t size) {
  format::Descriptor layer;
  layer.media_type = media_type;
  layer.digest = digest;
  layer.size = size;
  return layer;
}

format::Descriptor write_packed_metadata_blob(const fetch::Layout& layout, const Bytes& metadata,
                                              bool compress) {
  const auto frame = compress ? format::FrameCompressor(kMetadataLevel).compress(metadata)
                              : std::optional<Bytes>();
  // The pieces of a huge file without contents are all the same.
  const bool is_taken = frame && format::may_unfold(frame->size(), metadata.size());
  if (!is_taken) return write_metadata_blob(layout, format::kRootfsType, metadata);
  auto layer = write_metadata_blob(layout, format::kRootfsZstdType, *frame);
  layer.annotations.emplace(format::kPlainDigestAnnotation, format::sha256(metadata).to_string());
  layer.annotations.emplace(format::kPlainSizeAnnotation, std::to_string(metadata.size()));
  layer.annotations.emplace(format::kPlainVerityAnnotation, format::verity_digest(metadata).hex());
  return layer;
}

}  // namespace

format::Descriptor write_blob(const fetch::Layout& layout, std::string_view media_type,
                              ByteView bytes) {
  auto descriptor = describe(media_type, format::sha256(bytes), bytes.size());
  layout.write_blob(descriptor.digest, bytes);
  return descriptor;
}

std::string write_chunked_documents(const fetch::Layout& layout, const Bytes& metadata,
                                    const std::vector<StoredChunk>& chunks, bool compress) {
  std::vector<format::Descriptor> layers;
  layers.reserve(chunks.size() + 1);
  layers.push_back(write_metadata_blob(layout, format::kRootfsType, metadata));
  const auto media_type = compress ? format::kFiledataZstdType : format::kFiledataType;
  for (const StoredChunk& chunk : chunks)
    layers.push_back(describe(media_type, chunk.digest, chunk.stored_size));
  return write_manifest(layout, std::move(layers));
}

std::string write_packed_documents(const fetch::Layout& layout, const Bytes& metadata,
                                   const std::vector<format::Pack>& packs, bool compress) {
  std::vector<format::Descriptor> layers;
  layers.reserve(packs.size() + 1);
  layers.push_back(write_packed_metadata_blob(layout, metadata, compress));
  for (const format::Pack& pack : packs) {
    auto& layer = layers.emplace_back(describe(format::kPackType, pack.digest, pack.size));
    if (pack.hot_size == 0) continue;
    layer.annotations.emplace(format::kHotSizeAnnotation, std::to_string(pack.hot_size));
  }
  return write_manifest(layout, std::move(layers));
}

format::Descriptor tag_image(const fetch::Layout& layout, const std::string& tag,
                             const std::string& manifest) {
  if (manifest.size() > format::kMaxManifestSize) {
    spdlog::warn(
        "The manifest of {} has {} bytes, one line for each chunk; registries refuse more "
        "than {}. Packed images have few.",
        tag, manifest.size(), format::kMaxManifestSize);
  }
  auto descriptor = write_blob(layout, format::kManifestType, as_bytes(manifest));
  layout.sync();
  layout.set_tag(tag, descriptor);
  return descriptor;
}

}  // namespace puzzlefs::build
