// Moving the blobs of an image, several at a time.
#pragma once

#include <functional>
#include <vector>

#include "build/image_store.h"
#include "build/transfer.h"
#include "fetch/outcome.h"
#include "format/oci.h"

namespace puzzlefs::build {

/// Starts to move one blob. Called on the thread of move_blobs(), completed on any.
using StartMove =
    std::function<void(const format::Descriptor& blob, fetch::Completion<Movement> done)>;

/// Moves `blobs`, eight at a time and no more than `most_bytes`, if not a single one has more, and
/// counts what became of them; `on_progress` is called on this thread. After a failure no more are
/// started, those under way are waited for, and the first failure is thrown.
TransferCounts move_blobs(const std::vector<format::Descriptor>& blobs, std::uint64_t most_bytes,
                          const StartMove& start, const ProgressCallback& on_progress);

}  // namespace puzzlefs::build
