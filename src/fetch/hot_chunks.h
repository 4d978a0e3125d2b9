// What a start is expected to need.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "fetch/background_plan.h"
#include "format/metadata.h"
#include "format/oci.h"
#include "format/trace.h"

namespace puzzlefs::fetch {

/// The chunks of a packed image that it marks itself, by their index, as they lie in the packs.
/// None of other images. Throws CorruptError for malformed metadata.
std::vector<std::size_t> hot_places(const format::Metadata& metadata);

/// All chunks of an image, each once; of a packed one each at the place of its index. Throws
/// CorruptError for malformed metadata.
std::vector<BackgroundPlan::Chunk> chunks_of(const format::Metadata& metadata,
                                             const format::Manifest& manifest,
                                             const std::string& name);

/// Where in `chunks` those of a trace are, in its order, each once. What is not there means
/// nothing.
std::vector<std::size_t> places_of(const format::Trace& trace,
                                   const std::vector<BackgroundPlan::Chunk>& chunks);

}  // namespace puzzlefs::fetch
