// Moving the blobs of an image, several at a time.
#pragma once

#include <functional>
#include <vector>

#include "build/transfer.h"
#include "fetch/outcome.h"
#include "format/oci.h"

namespace puzzlefs::build {

enum class Movement {
  kMoved,
  kPresent,  // the receiver had the blob
};

/// Starts to move one blob. Called on the thread of move_blobs(), completed on any.
using StartMove =
    std::function<void(const format::Descriptor& blob, fetch::Completion<Movement> done)>;

/// The blobs that a manifest names, each once, in its order.
std::vector<format::Descriptor> distinct_blobs(const format::Manifest& manifest);

/// Moves `blobs`, eight at a time, and counts what became of them; `on_progress` is called on this
/// thread. After a failure no more are started, those under way are waited for, and the first
/// failure is thrown.
TransferResult move_blobs(const std::vector<format::Descriptor>& blobs, const StartMove& start,
                          const ProgressCallback& on_progress);

}  // namespace puzzlefs::build
