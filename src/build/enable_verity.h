// fs-verity for the files of a whole image.
#pragma once

#include <cstdint>

#include "build/transfer.h"
#include "fetch/runtime.h"
#include "format/digest.h"
#include "format/image_name.h"

namespace puzzlefs::build {

struct EnableVerityResult {
  std::uint64_t blobs = 0;  // distinct files that have fs-verity now
  std::uint64_t bytes = 0;
};

/// Enables fs-verity on all blobs of an image in a layout, those that have it already included, and
/// checks what the kernel measures: of the manifest against `manifest_verity`, of all others
/// against what the manifest and the metadata record. Throws Error, naming the file. Nothing is
/// changed if the manifest is another one, or if a blob or a record is missing. Blocks.
EnableVerityResult enable_verity(fetch::Runtime& runtime, const format::LayoutName& name,
                                 const format::Digest& manifest_verity,
                                 const ProgressCallback& on_progress = {});

}  // namespace puzzlefs::build
