// The threads of a process: one loop for all network I/O, and a few workers for hashing,
// decompression and disk. Created after daemonising, passed by reference.
#pragma once

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/thread_pool.hpp>
#include <functional>
#include <optional>
#include <thread>

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
  boost::asio::io_context& loop() { return loop_; }
  /// Runs `task` on a worker. An exception that escapes it ends the program.
  void post(std::function<void()> task);

 private:
  boost::asio::io_context loop_;
  boost::asio::executor_work_guard<boost::asio::io_context::executor_type> keep_running_;
  std::optional<boost::asio::thread_pool> workers_;  // always there after construction
  std::thread loop_thread_;
};

}  // namespace puzzlefs::fetch
