#include "fetch/stored_metadata.h"

#include <spdlog/fmt/fmt.h>

#include <charconv>
#include <memory>
#include <string>
#include <utility>

#include "format/error.h"
#include "format/zstd_frame.h"

namespace puzzlefs::fetch {
namespace {

const std::string& annotation(const format::Descriptor& layer, std::string_view key) {
  const auto found = layer.annotations.find(std::string(key));
  if (found != layer.annotations.end()) return found->second;
  throw CorruptError(fmt::format("The metadata {} is compressed, and has no annotation {}.",
                                 layer.digest.to_string(), key));
}

Outcome<Bytes> unfold(const format::Descriptor& plain, Outcome<Bytes>& stored) {
  try {
    return format::FrameDecompressor().decompress(stored.value(), plain.size);
  } catch (...) {
    return std::current_exception();
  }
}

}  // namespace

format::Descriptor plain_metadata(const format::Descriptor& layer) {
  if (layer.media_type != format::kRootfsZstdType) return layer;
  format::Descriptor plain;
  plain.media_type = format::kRootfsType;
  plain.digest = format::Digest::parse(annotation(layer, format::kPlainDigestAnnotation));
  const auto& text = annotation(layer, format::kPlainSizeAnnotation);
  const auto [end, failure] = std::from_chars(text.data(), text.data() + text.size(), plain.size);
  if (failure != std::errc() || end != text.data() + text.size() || layer.size > kMaxBlobSize ||
      !format::may_unfold(layer.size, plain.size)) {
    throw CorruptError(fmt::format("The metadata {} of {} bytes cannot unfold to '{}' bytes.",
                                   layer.digest.to_string(), layer.size, text));
  }
  return plain;
}

std::optional<format::Digest> plain_verity(const format::Descriptor& layer) {
  const bool is_compressed = layer.media_type == format::kRootfsZstdType;
  const auto key = is_compressed ? format::kPlainVerityAnnotation : format::kVerityAnnotation;
  const auto found = layer.annotations.find(std::string(key));
  if (found == layer.annotations.end()) return std::nullopt;
  return format::Digest::parse_hex(found->second);
}

ByteGetter unfolding(Runtime& runtime, BlobSource& source, const format::Descriptor& layer) {
  if (layer.media_type != format::kRootfsZstdType) return {};
  return [&runtime, &source, layer, plain = plain_metadata(layer)](Freshness freshness,
                                                                   Completion<Bytes> done) {
    source.read(layer, freshness, [&runtime, plain, done](Outcome<Bytes> outcome) {
      const auto stored = std::make_shared<Outcome<Bytes>>(std::move(outcome));
      runtime.post([plain, stored, done] { done(unfold(plain, *stored)); });
    });
  };
}

}  // namespace puzzlefs::fetch
