// Starting and stopping the threads of a process.
#include "fetch/runtime.h"

#include <pthread.h>

#include <algorithm>
#include <boost/asio/post.hpp>
#include <csignal>
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

Runtime::Runtime(unsigned workers) : keep_running_(loop_.get_executor()) {
  const BlockedSignals blocked;
  workers_.emplace(worker_count(workers));
  loop_thread_ = std::thread([this] { loop_.run(); });
}

Runtime::~Runtime() {
  loop_.stop();
  loop_thread_.join();
  workers_->stop();
  workers_->join();
}

void Runtime::post(std::function<void()> task) {
  boost::asio::post(*workers_, std::move(task));
}

}  // namespace puzzlefs::fetch
