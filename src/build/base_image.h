// The image of a layout that another one is built upon.
#pragma once

#include <memory>
#include <string>

#include "fetch/layout.h"
#include "format/bytes.h"
#include "format/metadata.h"
#include "format/oci.h"

namespace puzzlefs::build {

/// Its manifest and metadata, verified, in memory; of its chunks nothing is read yet.
class BaseImage {
 public:
  /// Of an index the image for this machine. `layout` must outlive it. Throws Error.
  BaseImage(const fetch::Layout& layout, const std::string& tag);

  /// "The image LAYOUT:TAG", for messages.
  const std::string& title() const { return title_; }
  const format::Metadata& metadata() const { return *metadata_; }
  bool is_packed() const;

  /// The bytes of a chunk of a packed image as they are stored. Throws Error if they cannot be had.
  /// Not thread-safe.
  Bytes read_stored(const format::PackedChunk& chunk);
  /// Throws NotFoundError if the layout lacks a pack, CorruptError if it has another size.
  void require_pack(const format::Pack& pack) const;

 private:
  const fetch::Layout& layout_;
  const std::string title_;
  Bytes metadata_bytes_;
  std::unique_ptr<format::Metadata> metadata_;
  std::uint32_t open_pack_ = 0;  // the index of what is mapped
  std::unique_ptr<fetch::MappedFile> mapped_;
};

}  // namespace puzzlefs::build
