// The packed image that a repository has under a name, for the next one to share its packs.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <unordered_set>
#include <utility>

#include "build/image_store.h"
#include "build/pack_writer.h"
#include "fetch/blob_source.h"
#include "fetch/choose_manifest.h"
#include "fetch/registry.h"
#include "format/bytes.h"
#include "format/digest.h"
#include "format/metadata.h"
#include "format/platform.h"

namespace puzzlefs::build {

/// Its metadata, verified, in memory; of its packs nothing is read yet. Not thread-safe.
class RegistryBase {
 public:
  /// Of `present`, which the registry has: of an index the image for `platform`. Nothing for what
  /// is not a packed image, or cannot be made sense of. Asks the registry for the metadata alone,
  /// unless there is an index. Throws UnavailableError. Blocks.
  static std::unique_ptr<RegistryBase> open(fetch::Registry& registry, fetch::Document present,
                                            const format::Platform& platform);

  /// It and `registry` must outlive what is given.
  PackBase pack_base();
  /// All that its manifest lists: its repository has that.
  const std::unordered_set<format::Digest>& blobs() const { return blobs_; }

 private:
  RegistryBase(fetch::Registry& registry, Bytes metadata, std::unordered_set<format::Digest> blobs);

  Bytes read_stored(const format::PackedChunk& chunk);
  Bytes read_range(const format::Pack& pack, fetch::ByteRange range);

  fetch::Registry& registry_;
  const Bytes metadata_bytes_;
  const format::Metadata metadata_;
  const std::unordered_set<format::Digest> blobs_;
  // The stretch of a pack that was read last.
  format::Pack window_pack_;
  std::uint64_t window_offset_ = 0;
  Bytes window_;
};

/// An image that was built upon a base of another repository, in a layout that lacks the base's
/// packs: where the receiver does not mount the base's blobs they go through memory.
class SharingSource : public ImageSource {
 public:
  /// All must outlive it.
  SharingSource(ImageSource& layout, ImageSource& base, std::unordered_set<format::Digest> blobs)
      : layout_(layout), base_(base), blobs_(std::move(blobs)) {}

  fetch::Document top() override { return layout_.top(); }
  fetch::Document document(const format::Descriptor& descriptor) override {
    return layout_.document(descriptor);
  }
  void get(const format::Descriptor& blob, fetch::Completion<fetch::RequestBody> done) override;
  bool holds_in_memory() const override { return true; }
  std::string name() const override { return layout_.name(); }

 private:
  ImageSource& layout_;
  ImageSource& base_;
  const std::unordered_set<format::Digest> blobs_;  // of the base
};

}  // namespace puzzlefs::build
