// The same tree in another layout, or in the same one with its chunks in another order.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "build/build_image.h"
#include "build/pack_plan.h"
#include "build/pack_writer.h"
#include "fetch/image.h"
#include "fetch/layout.h"
#include "format/digest.h"
#include "format/oci.h"
#include "format/zstd_frame.h"

namespace puzzlefs::build {

struct ConvertOptions {
  ImageLayout layout = ImageLayout::kPacked;
  /// As in BuildOptions.
  bool compress = false;
  int level = format::FrameCompressor::kDefaultLevel;
  /// Of `hot` chunks, which every start waits for: 19 takes an eighth off their size.
  int hot_level = 19;
  unsigned threads = 0;
  std::uint64_t pack_size = kPackSize;
  std::uint32_t max_packs = kMaxPacks;
  /// Packed: an image whose packs are used again, which the receiver of the image must have.
  std::optional<PackBase> base;
  /// Packed: chunks that a start needs, in the order of first use. They come first in the packs.
  std::vector<format::Digest> hot;
  /// Called now and then, on the calling thread, with the uncompressed bytes of chunks read so far.
  std::function<void(std::uint64_t bytes)> on_progress;
};

struct ConvertResult {
  format::Descriptor manifest;
  format::Digest manifest_verity;    // fs-verity digest of the manifest file
  std::uint64_t inodes = 0;          // of the tree
  std::uint64_t chunks = 0;          // distinct
  std::uint64_t chunk_bytes = 0;     // uncompressed
  std::uint64_t hot_chunks = 0;      // of `hot`, those that the image has
  std::uint64_t unknown_chunks = 0;  // and those that it does not have
  std::uint64_t new_blobs = 0;       // chunks or packs that the layout did not have
  std::uint64_t new_bytes = 0;       // their stored size
  std::uint32_t kept_packs = 0;      // of the base
  // Packs of the base that had too little in them that the image needs, and how much was stored
  // again of them.
  std::uint32_t replaced_packs = 0;
  std::uint64_t moved_bytes = 0;
};

/// Writes the image into `target` and tags it. The tree is the same, in one layer whatever layers
/// it had (a delta's manifest does not list the chunks that only hidden inodes have): inodes keep
/// their numbers and times, link counts are filled in where they are missing, and names are sorted.
/// What the manifest says besides its layers is kept: config, annotations, subject.
/// The result does not depend on the threads. The tag appears last: a conversion that fails leaves
/// only unreferenced blobs. Memory is bounded but for the metadata. Throws Error; CorruptError for
/// an image of which a piece lies outside its chunk.
ConvertResult convert_image(fetch::Image& source, const fetch::Layout& target,
                            const std::string& tag, const ConvertOptions& options);

}  // namespace puzzlefs::build
