// Where messages of a running command go.
#pragma once

#include <filesystem>
#include <string>

namespace puzzlefs::tools {

/// Warnings and worse; `verbosity` 1 adds what is done, 2 debugging, 3 everything. $PUZZLEFS_LOG
/// (trace, debug, info, warn, error, critical or off) takes its place where it is set. Throws
/// UsageError for another value of it.
void set_log_level(int verbosity);

/// Logs to standard error: the default of every command.
void log_to_stderr();

/// Logs to `file`; without one to syslog where it listens, else to puzzlefs.log in /var/log for
/// root, $XDG_STATE_HOME/puzzlefs or ~/.local/state/puzzlefs for others. Throws Error only if
/// `file` is given and cannot be opened: a mount must not fail for want of a log.
void log_in_background(const std::filesystem::path& file);

}  // namespace puzzlefs::tools
