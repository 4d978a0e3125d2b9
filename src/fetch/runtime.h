// The threads of a process: one loop for all network I/O, and a few workers for hashing,
// decompression and disk. Created after daemonising, passed by reference.
#pragma once

#include <chrono>
#include <functional>
#include <memory>

namespace boost::asio {
class io_context;
}

namespace puzzlefs::fetch {

/// Thread-safe. The destructor stops the loop, drops what has not run yet and joins all threads.
/// Signals are blocked in all of them: they belong to the threads that wait for them.
class Runtime {
 public:
  /// `workers` 0 takes the number of processors, at least 2 and at most 8.
  explicit Runtime(unsigned workers = 0);
  ~Runtime();
  Runtime(const Runtime&) = delete;
  Runtime& operator=(const Runtime&) = delete;

  /// For the HTTP client and timers only; nothing that blocks may run there.
  boost::asio::io_context& loop();
  /// Runs `task` on a worker. An exception that escapes it ends the program.
  void post(std::function<void()> task);
  /// As post(), when some time has passed.
  void post_after(std::chrono::milliseconds delay, std::function<void()> task);

 private:
  struct Threads;
  std::unique_ptr<Threads> threads_;
};

}  // namespace puzzlefs::fetch
