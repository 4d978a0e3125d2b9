// Pinning: all of an image in the cache, where it stays.
#pragma once

#include "build/transfer.h"
#include "fetch/image.h"
#include "format/image_name.h"

namespace puzzlefs::build {

/// Fetches what the image's cache lacks of it, verifies what is there, and pins it: before that, so
/// that none of it goes meanwhile, to be undone if it fails. A name that is pinned already is
/// pinned anew. `image` is what was opened by `name`. Throws Error, also if the image does not fit
/// into the cache beside what else is pinned. Blocks.
TransferResult pin_image(fetch::Image& image, const format::RegistryName& name,
                         const ProgressCallback& on_progress);

}  // namespace puzzlefs::build
