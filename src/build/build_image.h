// From a directory tree to an image in a local layout (doc/format.md, "How a tree becomes a
// stream").
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>

#include "build/pack_plan.h"
#include "build/timestamps.h"
#include "fetch/layout.h"
#include "format/digest.h"
#include "format/zstd_frame.h"

namespace puzzlefs::build {

/// How the chunks of an image are stored.
enum class ImageLayout {
  kChunked,  // version 3: each a blob of its own
  kPacked,   // version 4: many in one blob
};

struct BuildOptions {
  ImageLayout layout = ImageLayout::kChunked;
  /// Chunked: store chunks compressed where that makes them smaller.
  bool compress = false;
  /// Packed: the level of zstd to do so with; 0 stores them, and the metadata, as they are.
  int level = format::FrameCompressor::kDefaultLevel;
  /// Without: packed images keep times as they are; chunked ones, to be the same to the byte as
  /// those of the Rust puzzlefs, record neither times nor link counts.
  std::optional<TimestampRule> timestamps;
  /// At how many stored bytes the first packs are full, and how many an image may have; for tests
  /// to change.
  std::uint64_t pack_size = kPackSize;
  std::uint32_t max_packs = kMaxPacks;
  /// The tag of an image in the same layout to build upon, of the same kind: inodes keep their
  /// numbers. A chunked tree becomes a delta to it; a packed one is whole, and shares packs. Empty
  /// for an image of its own.
  std::string base_tag;
  /// Packed, with a base: a file that has the size and the time of modification which the base
  /// records for its path is not read, its contents are taken to be those of the base. Without a
  /// base it does nothing.
  bool trust_mtime = false;
  /// Threads that hash and compress beside the chunker; 0 takes the number of processors. The
  /// output does not depend on it.
  unsigned threads = 0;
  /// Called now and then, on the calling thread, with the bytes of file contents read so far.
  std::function<void(std::uint64_t bytes)> on_progress;
};

struct BuildResult {
  format::Descriptor manifest;
  format::Digest manifest_verity;  // fs-verity digest of the manifest file
  std::uint64_t inodes = 0;
  std::uint64_t content_bytes = 0;  // of regular files that were read, each inode once
  std::uint64_t trusted_files = 0;  // that were not read
  std::uint64_t chunks = 0;         // in the stream, and pieces of files that were not read
  std::uint64_t distinct_chunks = 0;
  std::uint64_t new_blobs = 0;  // chunks or packs that the layout did not have
  std::uint64_t new_bytes = 0;  // their stored size
  // Packs of the base that had too little in them that the image needs, and how much was stored
  // again of them.
  std::uint64_t replaced_packs = 0;
  std::uint64_t moved_bytes = 0;
};

/// Builds `rootfs` into `layout` and tags it. The tag appears last: a build that fails leaves only
/// unreferenced blobs. Throws Error, naming the file that could not be read; UsageError for a base
/// of the other kind.
BuildResult build_image(const std::filesystem::path& rootfs, const fetch::Layout& layout,
                        const std::string& tag, const BuildOptions& options);

}  // namespace puzzlefs::build
