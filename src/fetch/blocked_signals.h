// For whoever starts a thread.
#pragma once

#include <pthread.h>

#include <csignal>

namespace puzzlefs::fetch {

/// Blocks the signals of the calling thread until destruction. Threads inherit the mask of their
/// maker: SIGTERM must interrupt the thread that serves FUSE and not one of ours, and a SIGPIPE
/// from a connection that the peer closed must not end the program. Not those of a thread's own
/// faults: one that is blocked ends the process, though FaultGuard would handle it.
class BlockedSignals {
 public:
  BlockedSignals() {
    sigset_t all;
    sigfillset(&all);
    for (const int fault : {SIGSEGV, SIGBUS, SIGFPE, SIGILL}) sigdelset(&all, fault);
    pthread_sigmask(SIG_SETMASK, &all, &previous_);
  }
  ~BlockedSignals() { pthread_sigmask(SIG_SETMASK, &previous_, nullptr); }
  BlockedSignals(const BlockedSignals&) = delete;
  BlockedSignals& operator=(const BlockedSignals&) = delete;

 private:
  sigset_t previous_;
};

}  // namespace puzzlefs::fetch
