#include "build/registry_base.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <cstring>
#include <string>
#include <unordered_set>
#include <utility>

#include "fetch/cache.h"
#include "fetch/outcome.h"
#include "fetch/stored_metadata.h"
#include "format/error.h"
#include "format/oci.h"
#include "format/zstd_frame.h"

namespace puzzlefs::build {
namespace {

using fetch::Completion;
using fetch::wait_for;

// What is read at once of a pack that is not worth keeping: chunks that are moved lie side by side.
constexpr std::uint64_t kWindowSize = 8 << 20;

fetch::Document get_document(fetch::Registry& registry, const format::Descriptor& descriptor) {
  auto fetched = wait_for<fetch::FetchedManifest>([&](Completion<fetch::FetchedManifest> done) {
    registry.get_manifest(descriptor.digest.to_string(), std::move(done));
  });
  return fetch::make_document(std::move(fetched.document), fetched.digest);
}

bool has_packs(const format::Manifest& manifest) {
  return std::any_of(manifest.layers.begin(), manifest.layers.end(),
                     [](const auto& layer) { return layer.media_type == format::kPackType; });
}

Bytes read_metadata(fetch::Registry& registry, const format::Descriptor& layer) {
  const format::Descriptor plain = fetch::plain_metadata(layer);
  if (std::max(layer.size, plain.size) > fetch::kMaxBlobSize)
    throw CorruptError("Its metadata is larger than such may be.");
  Bytes bytes = wait_for<Bytes>([&](Completion<Bytes> done) {
    registry.read(layer, fetch::Freshness::kAny, std::move(done));
  });
  if (layer.media_type == format::kRootfsZstdType)
    bytes = format::FrameDecompressor().decompress(bytes, plain.size);
  if (format::sha256(bytes) == plain.digest) return bytes;
  throw CorruptError("What came as its metadata does not have the digest that it should.");
}

std::unordered_set<format::Digest> list_blobs(const format::Manifest& manifest) {
  std::unordered_set<format::Digest> blobs{manifest.config.digest};
  for (const auto& layer : manifest.layers) blobs.insert(layer.digest);
  return blobs;
}

// A registry may have removed what no manifest lists.
void require_listed(const format::Metadata& metadata,
                    const std::unordered_set<format::Digest>& listed) {
  for (std::uint32_t pack = 0; pack < metadata.pack_count(); ++pack) {
    if (!listed.contains(metadata.pack(pack).digest))
      throw CorruptError("Its manifest does not list all of its packs.");
  }
}

}  // namespace

std::unique_ptr<RegistryBase> RegistryBase::open(fetch::Registry& registry, fetch::Document present,
                                                 const format::Platform& platform) {
  const std::string name = registry.name().to_string();
  try {
    const auto document = fetch::choose_manifest(
        std::move(present), name, platform,
        [&](const auto& descriptor) { return get_document(registry, descriptor); });
    const auto manifest = format::parse_manifest(document.bytes, name);
    if (!format::has_metadata(manifest) || !has_packs(manifest)) return nullptr;
    std::unique_ptr<RegistryBase> base(
        new RegistryBase(registry, read_metadata(registry, format::metadata_layer(manifest, name)),
                         list_blobs(manifest)));
    require_listed(base->metadata_, base->blobs_);
    return base;
  } catch (const UnavailableError&) {
    throw;
  } catch (const Error& error) {
    spdlog::info("The present {} cannot be built upon: {}", name, error.what());
    return nullptr;
  }
}

RegistryBase::RegistryBase(fetch::Registry& registry, Bytes metadata,
                           std::unordered_set<format::Digest> blobs)
    : registry_(registry),
      metadata_bytes_(std::move(metadata)),
      metadata_(metadata_bytes_),
      blobs_(std::move(blobs)) {}

PackBase RegistryBase::pack_base() {
  return {metadata_, [this](const format::PackedChunk& chunk) { return read_stored(chunk); }};
}

Bytes RegistryBase::read_stored(const format::PackedChunk& chunk) {
  const format::Pack pack = metadata_.pack(chunk.pack);
  const bool is_there = pack == window_pack_ && chunk.offset >= window_offset_ &&
                        chunk.offset + chunk.stored_size <= window_offset_ + window_.size();
  if (!is_there) {
    const std::uint64_t size =
        std::min(std::max<std::uint64_t>(kWindowSize, chunk.stored_size), pack.size - chunk.offset);
    window_ = read_range(pack, {chunk.offset, size});
    window_pack_ = pack;
    window_offset_ = chunk.offset;
  }
  const auto begin = window_.begin() + static_cast<std::ptrdiff_t>(chunk.offset - window_offset_);
  return {begin, begin + chunk.stored_size};
}

// The writer verifies what it is given.
Bytes RegistryBase::read_range(const format::Pack& pack, fetch::ByteRange range) {
  format::Descriptor blob;
  blob.media_type = format::kPackType;
  blob.digest = pack.digest;
  blob.size = pack.size;
  const auto bytes = std::make_shared<Bytes>(range.size);
  // A server without ranges sends what is before and behind as well.
  const auto take = [bytes, range](std::uint64_t offset, ByteView part) {
    const std::uint64_t begin = std::max(offset, range.offset);
    const std::uint64_t end = std::min(offset + part.size(), range.end());
    if (begin >= end) return;
    std::memcpy(bytes->data() + (begin - range.offset), part.data() + (begin - offset),
                end - begin);
  };
  wait_for<fetch::Done>([&](Completion<fetch::Done> done) {
    registry_.read_range(blob, range, fetch::Freshness::kAny, take, std::move(done));
  });
  return std::move(*bytes);
}

void SharingSource::get(const format::Descriptor& blob, Completion<fetch::RequestBody> done) {
  (blobs_.contains(blob.digest) ? base_ : layout_).get(blob, std::move(done));
}

}  // namespace puzzlefs::build
