// From a directory tree to an image in a local layout (doc/format.md, "How a tree becomes a
// stream").
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>

#include "fetch/layout.h"
#include "format/digest.h"

namespace puzzlefs::build {

struct BuildOptions {
  /// Store chunks compressed where that makes them smaller.
  bool compress = false;
  /// The tag of an image in the same layout to build upon: the tree becomes a delta to it. Empty
  /// for an image of its own.
  std::string base_tag;
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
  std::uint64_t content_bytes = 0;  // of regular files, each inode once
  std::uint64_t chunks = 0;         // in the stream
  std::uint64_t distinct_chunks = 0;
  std::uint64_t new_blobs = 0;  // chunks that the layout did not have
  std::uint64_t new_bytes = 0;  // their stored size
};

/// Builds `rootfs` into `layout` and tags it. The tag appears last: a build that fails leaves only
/// unreferenced blobs. Throws Error, naming the file that could not be read.
BuildResult build_image(const std::filesystem::path& rootfs, const fetch::Layout& layout,
                        const std::string& tag, const BuildOptions& options);

}  // namespace puzzlefs::build
