// Reading the chunks of an image one after the other, for a writer that stores them anew.
#pragma once

#include <functional>
#include <vector>

#include "build/buffer_pool.h"
#include "fetch/chunk_store.h"
#include "format/metadata.h"

namespace puzzlefs::build {

/// Gives `take` the chunks that `pieces` lie in, whole, in that order and on this thread, while the
/// next ones are on their way. Each comes in a buffer of `buffers`, which have room for
/// format::kMaxChunkSize: that bounds how many wait behind `take`. Throws Error for what cannot be
/// had, and what `take` throws.
void feed_chunks(fetch::ChunkStore& chunks, const std::vector<format::ChunkRef>& pieces,
                 BufferPool& buffers, const std::function<void(Slice chunk)>& take);

}  // namespace puzzlefs::build
