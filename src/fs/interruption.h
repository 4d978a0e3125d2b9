// What an interruption of a request means.
#pragma once

#include <sys/types.h>

namespace puzzlefs::fs {

/// Whether a thread that the kernel woke from its wait for a request is to end, or was told to stop
/// what it does: by SIGINT, SIGTERM, SIGHUP or SIGQUIT, or by any signal that it will die of. The
/// kernel tells of every signal, but programs do not expect that one of a child or a timer makes
/// open(2) or execve(2) fail. False for a thread that cannot be looked at, being outside of this
/// process's pid namespace (then its number is 0) or hidden: it waits, which is the lesser evil.
bool is_told_to_stop(pid_t thread);

}  // namespace puzzlefs::fs
