#include "build/base_image.h"

#include <spdlog/fmt/fmt.h>

#include <charconv>
#include <string_view>

#include "fetch/cache.h"
#include "fetch/choose_manifest.h"
#include "format/error.h"
#include "format/zstd_frame.h"

namespace puzzlefs::build {
namespace {

Bytes read_verified(const fetch::Layout& layout, const format::Descriptor& blob,
                    std::uint64_t most) {
  const auto file = layout.map_blob(blob.digest);
  Bytes bytes;
  if (file.bytes().size() == blob.size && blob.size <= most)
    bytes.assign(file.bytes().begin(), file.bytes().end());
  if (format::sha256(bytes) == blob.digest) return bytes;
  throw CorruptError(
      fmt::format("The file {} does not hold the blob that its name says, or is "
                  "larger than such may be. Delete it and build or pull the image "
                  "again.",
                  layout.blob_path(blob.digest).native()));
}

fetch::Document choose(const fetch::Layout& layout, const std::string& tag,
                       const std::string& name) {
  const auto read = [&layout](const format::Descriptor& descriptor) {
    return fetch::make_document(read_verified(layout, descriptor, format::kMaxManifestSize),
                                descriptor.digest);
  };
  return fetch::choose_manifest(read(layout.resolve(tag)), name, format::host_platform(), read);
}

std::string_view annotation(const format::Descriptor& layer, std::string_view key,
                            const std::string& title) {
  const auto found = layer.annotations.find(std::string(key));
  if (found != layer.annotations.end()) return found->second;
  throw CorruptError(title + " has compressed metadata without the annotation " + std::string(key) +
                     ".");
}

Bytes read_metadata(const fetch::Layout& layout, const format::Descriptor& layer,
                    const std::string& title) {
  Bytes stored = read_verified(layout, layer, fetch::kMaxBlobSize);
  if (layer.media_type != format::kRootfsZstdType) return stored;
  const auto size_text = annotation(layer, format::kPlainSizeAnnotation, title);
  std::uint64_t size = 0;
  const auto [end, error] =
      std::from_chars(size_text.data(), size_text.data() + size_text.size(), size);
  if (error != std::errc() || end != size_text.data() + size_text.size() ||
      size > fetch::kMaxBlobSize) {
    throw CorruptError(title + " says an impossible size of its metadata.");
  }
  Bytes plain = format::FrameDecompressor().decompress(stored, size);
  const auto digest = annotation(layer, format::kPlainDigestAnnotation, title);
  if (format::sha256(plain) == format::Digest::parse(digest)) return plain;
  throw CorruptError(title + " has metadata that does not unfold to what its manifest says.");
}

}  // namespace

BaseImage::BaseImage(const fetch::Layout& layout, const std::string& tag)
    : layout_(layout), title_("The image " + layout.path().native() + ":" + tag) {
  const auto document = choose(layout, tag, layout.path().native() + ":" + tag);
  const auto manifest = format::parse_manifest(document.bytes, title_);
  metadata_bytes_ = read_metadata(layout, format::metadata_layer(manifest, title_), title_);
  metadata_ = std::make_unique<format::Metadata>(metadata_bytes_);
}

bool BaseImage::is_packed() const {
  return metadata_->version() == format::kPackedVersion;
}

Bytes BaseImage::read_stored(const format::PackedChunk& chunk) {
  const format::Pack pack = metadata_->pack(chunk.pack);
  if (!mapped_ || open_pack_ != chunk.pack) {
    require_pack(pack);
    mapped_ = std::make_unique<fetch::MappedFile>(layout_.map_blob(pack.digest));
    open_pack_ = chunk.pack;
  }
  const ByteView bytes = mapped_->bytes().subspan(chunk.offset, chunk.stored_size);
  return {bytes.begin(), bytes.end()};
}

void BaseImage::require_pack(const format::Pack& pack) const {
  const auto size = layout_.map_blob(pack.digest).bytes().size();
  if (size == pack.size) return;
  throw CorruptError(
      fmt::format("{} has {} bytes; {} says {}. Delete it and build or pull that "
                  "image again.",
                  layout_.blob_path(pack.digest).native(), size, title_, pack.size));
}

}  // namespace puzzlefs::build
