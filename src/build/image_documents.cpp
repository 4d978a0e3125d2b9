#include "build/image_documents.h"

#include <spdlog/spdlog.h>

#include <optional>
#include <utility>

#include "build/blob_file.h"
#include "format/digest.h"
#include "format/verity.h"
#include "format/zstd_frame.h"

namespace puzzlefs::build {
namespace {

// Every mount of an image that is not cached waits for its metadata, which is small beside the
// packs.
constexpr int kMetadataLevel = 9;

format::Descriptor describe(std::string_view media_type, const format::Digest& digest,
                            std::uint64_t size) {
  format::Descriptor layer;
  layer.media_type = media_type;
  layer.digest = digest;
  layer.size = size;
  return layer;
}

std::string write_manifest(const fetch::Layout& layout, std::vector<format::Descriptor> layers) {
  write_blob(layout, format::kEmptyType, as_bytes(format::kEmptyConfigBlob));
  format::Manifest manifest;
  manifest.config = format::empty_config();
  manifest.layers = std::move(layers);
  return format::to_json_text(manifest);
}

format::Descriptor describe_metadata(std::string_view media_type, const WrittenBlob& blob) {
  auto layer = describe(media_type, blob.digest, blob.size);
  layer.annotations.emplace(format::kVerityAnnotation, blob.verity.hex());
  return layer;
}

format::Descriptor write_metadata_blob(const fetch::Layout& layout,
                                       const format::CapnpMessage& metadata) {
  BlobFile file(layout);
  metadata.write_to([&file](ByteView part) { file.append(part); });
  return describe_metadata(format::kRootfsType, file.finish());
}

// Nothing if it is not worth it.
std::optional<format::Descriptor> compress_metadata_blob(const fetch::Layout& layout,
                                                         const format::CapnpMessage& metadata) {
  const std::uint64_t size = metadata.size();
  format::BlobHasher hasher;
  BlobFile file(layout);
  format::FrameStream frame(kMetadataLevel, size, [&file](ByteView part) { file.append(part); });
  metadata.write_to([&](ByteView part) {
    hasher.update(part);
    frame.write(part);
  });
  frame.finish();
  // The pieces of a huge file without contents are all the same.
  if (file.size() >= size || !format::may_unfold(file.size(), size)) return std::nullopt;

  auto layer = describe_metadata(format::kRootfsZstdType, file.finish());
  const auto [digest, verity] = hasher.finish();
  layer.annotations.emplace(format::kPlainDigestAnnotation, digest.to_string());
  layer.annotations.emplace(format::kPlainSizeAnnotation, std::to_string(size));
  layer.annotations.emplace(format::kPlainVerityAnnotation, verity.hex());
  return layer;
}

format::Descriptor write_packed_metadata_blob(const fetch::Layout& layout,
                                              const format::CapnpMessage& metadata, bool compress) {
  auto layer =
      compress ? compress_metadata_blob(layout, metadata) : std::optional<format::Descriptor>();
  return layer ? *std::move(layer) : write_metadata_blob(layout, metadata);
}

}  // namespace

format::Descriptor write_blob(const fetch::Layout& layout, std::string_view media_type,
                              ByteView bytes) {
  auto descriptor = describe(media_type, format::sha256(bytes), bytes.size());
  layout.write_blob(descriptor.digest, bytes);
  return descriptor;
}

std::string write_chunked_documents(const fetch::Layout& layout,
                                    const format::CapnpMessage& metadata,
                                    const std::vector<StoredChunk>& chunks, bool compress) {
  std::vector<format::Descriptor> layers;
  layers.reserve(chunks.size() + 1);
  layers.push_back(write_metadata_blob(layout, metadata));
  const auto media_type = compress ? format::kFiledataZstdType : format::kFiledataType;
  for (const StoredChunk& chunk : chunks)
    layers.push_back(describe(media_type, chunk.digest, chunk.stored_size));
  return write_manifest(layout, std::move(layers));
}

std::string write_packed_documents(const fetch::Layout& layout,
                                   const format::CapnpMessage& metadata,
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
