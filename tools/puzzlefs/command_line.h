// The command line: subcommands, options and exit codes.
#pragma once

#include <CLI/CLI.hpp>

#include "puzzlefs/terminal.h"

namespace puzzlefs::tools {

/// Runs the command. Returns its exit code: 0 success, 1 failure, 2 wrong usage.
int run(int argc, const char* const* argv, Terminal& terminal);

/// How results are printed.
enum class OutputFormat { kText, kJson };

/// Adds --format to a subcommand.
void add_format_option(CLI::App& command, OutputFormat& format);

/// Each adds one subcommand to the application; the terminal must outlive it.
void add_build(CLI::App& app, Terminal& terminal);
void add_push(CLI::App& app, Terminal& terminal);
void add_pull(CLI::App& app, Terminal& terminal);
void add_mount(CLI::App& app, Terminal& terminal);
void add_umount(CLI::App& app);
void add_extract(CLI::App& app, Terminal& terminal);
void add_inspect(CLI::App& app, Terminal& terminal);

}  // namespace puzzlefs::tools
