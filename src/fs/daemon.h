// Running as a service of the system: going to the background, and the signals that end it.
#pragma once

#include <functional>

namespace puzzlefs::fs {

/// Blocks SIGTERM, SIGINT and SIGHUP in the calling thread and in all that it starts from then on.
/// A session receives these signals by waiting for them, and any thread that does not block them
/// would end the process in its place. To be called before a Session is made; threads that exist by
/// then must block them too, as those of fetch::Runtime do.
void block_termination_signals();

/// Opens /dev/null in place of each standard stream that the process was started without. To be
/// called first of all: a file that is opened later would get the number of the missing stream, and
/// be written to or replaced as such.
void open_missing_streams();

/// What runs in the background. It calls `ready` once, when it has begun to serve.
using BackgroundTask = std::function<void(const std::function<void()>& ready)>;

/// Runs `task` in a background process: a session of its own and working directory "/" from the
/// start (make paths absolute before), standard streams on /dev/null once it is ready. Must be
/// called while the process has one thread.
/// In the caller's process it returns when the task calls `ready`, and throws the task's error if
/// that comes first, or an Error if the process died without one. The background process never
/// returns from it: it exits with 0, or with 1 after an error, which is logged if it came too late
/// to be thrown.
void run_in_background(const BackgroundTask& task);

}  // namespace puzzlefs::fs
