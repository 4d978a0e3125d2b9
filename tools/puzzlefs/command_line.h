// The command line: subcommands and exit codes.
#pragma once

#include "puzzlefs/terminal.h"

namespace puzzlefs::tools {

/// Runs the command. Returns its exit code: 0 success, 1 failure, 2 wrong usage.
int run(int argc, const char* const* argv, Terminal& terminal);

}  // namespace puzzlefs::tools
