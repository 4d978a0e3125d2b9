// The subcommands, a file each.
#pragma once

#include "puzzlefs/terminal.h"

namespace CLI {
class App;
}

namespace puzzlefs::tools {

/// Each adds one subcommand to the application; the terminal must outlive it.
void add_build(CLI::App& app, Terminal& terminal);
void add_push(CLI::App& app, Terminal& terminal);
void add_pull(CLI::App& app, Terminal& terminal);
void add_copy(CLI::App& app, Terminal& terminal);
void add_convert(CLI::App& app, Terminal& terminal);
void add_optimize(CLI::App& app, Terminal& terminal);
void add_enable_fs_verity(CLI::App& app, Terminal& terminal);
void add_mount(CLI::App& app, Terminal& terminal);
void add_umount(CLI::App& app, Terminal& terminal);
void add_stats(CLI::App& app, Terminal& terminal);
void add_trace(CLI::App& app, Terminal& terminal);
void add_attach(CLI::App& app, Terminal& terminal);
void add_extract(CLI::App& app, Terminal& terminal);
void add_inspect(CLI::App& app, Terminal& terminal);
void add_tags(CLI::App& app, Terminal& terminal);
void add_digest(CLI::App& app, Terminal& terminal);
void add_delete(CLI::App& app, Terminal& terminal);
void add_login(CLI::App& app, Terminal& terminal);
void add_logout(CLI::App& app, Terminal& terminal);
void add_cache(CLI::App& app, Terminal& terminal);

/// Of the group "cache".
void add_cache_pin(CLI::App& cache, Terminal& terminal);
void add_cache_unpin(CLI::App& cache, Terminal& terminal);

}  // namespace puzzlefs::tools
