// What became of the blobs of an image, while they move and afterwards.
#pragma once

#include <string>

#include "build/transfer.h"
#include "puzzlefs/arguments.h"
#include "puzzlefs/progress.h"
#include "puzzlefs/terminal.h"

namespace puzzlefs::tools {

/// Shows how far a transfer is. `progress` must outlive it.
build::ProgressCallback show_in(Progress& progress);

/// What results say besides their figures.
struct TransferTitle {
  std::string done;  // "Pushed"
  std::string name;
  bool dry_run = false;
};

void print_transfer(Terminal& terminal, OutputFormat format, const TransferTitle& title,
                    const build::TransferResult& result);

}  // namespace puzzlefs::tools
