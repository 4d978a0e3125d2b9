// Pinning as several subcommands do it.
#pragma once

#include "build/transfer.h"
#include "fetch/image.h"
#include "format/image_name.h"
#include "puzzlefs/progress.h"
#include "puzzlefs/terminal.h"

namespace puzzlefs::tools {

/// Opens the image, fetches all of it into the cache and pins it, with progress. A registry that
/// cannot be reached is a failure, unless the options are for offline. Throws Error. Blocks.
build::TransferResult pin(const format::RegistryName& name, fetch::ImageOptions options,
                          ProgressMode progress, Terminal& terminal);

}  // namespace puzzlefs::tools
