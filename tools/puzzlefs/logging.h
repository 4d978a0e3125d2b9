// Where messages of a running command go.
#pragma once

#include <filesystem>
#include <functional>

namespace puzzlefs::tools {

/// Warnings and worse; `verbosity` 1 adds what is done, 2 debugging, 3 everything. $PUZZLEFS_LOG
/// (trace, debug, info, warn, error, critical or off) takes its place where it is set. Throws
/// UsageError for another value of it.
void set_log_level(int verbosity);

// Wherever messages go, control characters in them are replaced as by harmless().

/// Logs to standard error: the default of every command.
void log_to_stderr();

/// Opens `file`, in a directory that must exist, and gives what makes messages go there from then
/// on. Throws Error.
std::function<void()> open_log_file(const std::filesystem::path& file);

/// Logs to syslog where it listens, else to puzzlefs.log in /var/log for root,
/// $XDG_STATE_HOME/puzzlefs or ~/.local/state/puzzlefs for others, which it says where messages
/// went before. If that file cannot be written it says that nothing will be logged: a mount must
/// not fail for want of a log.
void log_in_background();

}  // namespace puzzlefs::tools
