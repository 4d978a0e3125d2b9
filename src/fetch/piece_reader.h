// The pieces of a file, one after the other.
#pragma once

#include <functional>
#include <memory>

#include "fetch/chunk_store.h"
#include "fetch/outcome.h"
#include "fetch/runtime.h"
#include "fetch/whole_files.h"

namespace puzzlefs::fetch {

/// Given a piece and the chunk that it lies in. May throw Error.
using TakePiece = std::function<void(const format::ChunkRef&, const ChunkData&)>;

/// Calls `take` with each of `pieces`, in order, one at a time, on workers. A few chunks are got
/// at once, and no more of them held. No thread waits. What a chunk's read fails with, or `take`
/// throws, ends it and is the outcome, which comes from a worker. All references must outlive the
/// operation. ChunkStore::give_up(reader) ends it too, as long as it waits for chunks.
void read_pieces(Runtime& runtime, ChunkStore& chunks, const FilePieces& pieces, Purpose purpose,
                 TakePiece take, Completion<Done> done, ReaderId reader = nullptr);

}  // namespace puzzlefs::fetch
