// Stored chunks as files refer to them.
#pragma once

#include <vector>

#include "build/chunk_writer.h"
#include "build/pack_writer.h"
#include "format/metadata.h"

namespace puzzlefs::build {

/// The chunks of a stream in its order, each as a piece that is all of it.
std::vector<format::ChunkRef> whole_pieces(const std::vector<StoredChunk>& chunks);
std::vector<format::ChunkRef> whole_pieces(const PackedStream& stream);

}  // namespace puzzlefs::build
