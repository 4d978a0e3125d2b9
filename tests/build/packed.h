// Packed images in a layout, read straight from their files.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "build/base_image.h"
#include "fetch/layout.h"
#include "format/metadata.h"
#include "format/oci.h"

namespace puzzlefs::test {

class PackedImage {
 public:
  PackedImage(const fetch::Layout& layout, const std::string& tag);

  const format::Metadata& metadata() const { return base_.metadata(); }
  const format::Manifest& manifest() const { return manifest_; }
  std::vector<format::Pack> packs() const;
  std::vector<format::PackedChunk> chunks() const;

  /// The inode at a path without a leading slash; empty for the root.
  format::Inode at(const std::string& path) const;
  /// The contents of a file, of chunks of which each was verified.
  std::string content(const std::string& path);
  /// The contents of a chunk, verified.
  std::string chunk(const format::PackedChunk& chunk);

  /// Fails the test unless every chunk is what its digest says, the table is sorted, without gaps
  /// but for `dead` bytes, and without a digest twice, and the manifest lists the packs.
  void expect_sound(std::uint64_t dead = 0);

 private:
  build::BaseImage base_;
  format::Manifest manifest_;
};

/// Names of files beside the blobs that are none.
std::vector<std::string> temporary_files(const fetch::Layout& layout);

}  // namespace puzzlefs::test
