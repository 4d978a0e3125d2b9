// Moving images between a local layout and a registry.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "fetch/layout.h"
#include "fetch/registry.h"
#include "fetch/runtime.h"
#include "format/oci.h"

namespace puzzlefs::build {

struct TransferProgress {
  std::uint64_t blobs_done = 0;
  std::uint64_t blobs_total = 0;
  std::uint64_t bytes_done = 0;  // moved or found to be there already
  std::uint64_t bytes_total = 0;
};

struct TransferResult {
  format::Descriptor manifest;
  std::uint64_t moved_blobs = 0;  // distinct blobs transferred, without the manifest
  std::uint64_t moved_bytes = 0;
  std::uint64_t present_blobs = 0;  // the receiver had them
  std::uint64_t present_bytes = 0;
};

using ProgressCallback = std::function<void(const TransferProgress&)>;

/// Uploads what the registry lacks, in parallel, then the manifest under the registry name's
/// reference. What the tag's present manifest there names is not asked for again. Every blob is
/// verified before it is sent. Throws Error. Blocks.
TransferResult push(fetch::Runtime& runtime, const fetch::Layout& layout, const std::string& tag,
                    fetch::Registry& registry, const ProgressCallback& on_progress = {});

/// Downloads what the layout lacks or has broken, verified, in parallel, then sets the tag. Refuses
/// what is not a PuzzleFS image, and blobs larger than a reader accepts. Throws Error. Blocks.
TransferResult pull(fetch::Runtime& runtime, fetch::Registry& registry, const fetch::Layout& layout,
                    const std::string& tag, const ProgressCallback& on_progress = {});

}  // namespace puzzlefs::build
