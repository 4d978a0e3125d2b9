// Whether the chunks of a file are in the cache.
#pragma once

#include "fetch/cache.h"
#include "fetch/whole_files.h"

namespace puzzlefs::fetch {

enum class Presence {
  kHere,
  kComing,  // somebody fetches it, or has it and writes it to the cache
  kAbsent,
};

/// Of all chunks of a file: the first that is not here decides.
Presence presence_of(Cache& cache, const FilePieces& pieces);

}  // namespace puzzlefs::fetch
