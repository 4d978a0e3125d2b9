// Moving images between layouts and registries: push, pull and copy are one.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>

#include "build/image_store.h"
#include "fetch/runtime.h"
#include "format/oci.h"
#include "format/platform.h"

namespace puzzlefs::build {

/// What became of distinct blobs; manifests and indexes are not among them.
struct TransferCounts {
  std::uint64_t moved_blobs = 0;
  std::uint64_t moved_bytes = 0;
  std::uint64_t mounted_blobs = 0;  // the receiver took them from another of its repositories
  std::uint64_t mounted_bytes = 0;
  std::uint64_t present_blobs = 0;  // the receiver had them
  std::uint64_t present_bytes = 0;
};

struct TransferProgress : TransferCounts {
  std::uint64_t blobs_done = 0;
  std::uint64_t blobs_total = 0;
  std::uint64_t bytes_done = 0;  // of all kinds
  std::uint64_t bytes_total = 0;
};

struct TransferResult : TransferCounts {
  format::Descriptor manifest;  // what the target's name stands for: a manifest or an index
};

using ProgressCallback = std::function<void(const TransferProgress&)>;

struct TransferOptions {
  /// The image of an index that is moved, alone. Nothing moves what the source's name stands for,
  /// whole.
  std::optional<format::Platform> platform;
  /// Whether a single image must be a PuzzleFS image.
  bool only_puzzlefs = false;
  /// Only count: nothing is moved and nothing changed.
  bool dry_run = false;
  /// Called on the calling thread.
  ProgressCallback on_progress;
};

/// Moves what the target lacks, in parallel, then the manifests that an index names, then what the
/// target's name shall stand for: a transfer that is broken off leaves the name as it was. Every
/// blob is verified before it is offered to the target. Throws Error. Blocks.
TransferResult transfer(ImageSource& source, ImageTarget& target, const TransferOptions& options);

}  // namespace puzzlefs::build
