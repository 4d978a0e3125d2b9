// Starting and stopping the threads of a process.
#include "fetch/runtime.h"

#include <pthread.h>

#include <algorithm>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/thread_pool.hpp>
#include <csignal>
#include <thread>
#include <utility>

namespace puzzlefs::fetch {
namespace {

// Threads inherit the mask of their maker. SIGTERM must interrupt the thread that serves FUSE and
// not one of ours, and a SIGPIPE from a connection that the peer closed must not end the program.
class BlockedSignals {
 public:
  BlockedSignals() {
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &previous_);
  }
  ~BlockedSignals() { pthread_sigmask(SIG_SETMASK, &previous_, nullptr); }
  BlockedSignals(const BlockedSignals&) = delete;
  BlockedSignals& operator=(const BlockedSignals&) = delete;

 private:
  sigset_t previous_;
};

unsigned worker_count(unsigned wanted) {
  return wanted != 0 ? wanted : std::clamp(std::thread::hardware_concurrency(), 2U, 8U);
}

}  // namespace

struct Runtime::Threads {
  explicit Threads(unsigned worker_count)
      : keep_running(loop.get_executor()),
        workers(worker_count),
        loop_thread([this] { loop.run(); }) {}

  ~Threads() {
    loop.stop();
    loop_thread.join();
    workers.stop();
    workers.join();
  }

  boost::asio::io_context loop;
  boost::asio::executor_work_guard<boost::asio::io_context::executor_type> keep_running;
  boost::asio::thread_pool workers;
  std::thread loop_thread;
};

Runtime::Runtime(unsigned workers) {
  const BlockedSignals blocked;
  threads_ = std::make_unique<Threads>(worker_count(workers));
}

Runtime::~Runtime() = default;

boost::asio::io_context& Runtime::loop() {
  return threads_->loop;
}

void Runtime::post(std::function<void()> task) {
  boost::asio::post(threads_->workers, std::move(task));
}

}  // namespace puzzlefs::fetch
