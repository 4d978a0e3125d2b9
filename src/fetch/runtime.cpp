// Starting and stopping the threads of a process.
#include "fetch/runtime.h"

#include <algorithm>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/thread_pool.hpp>
#include <thread>
#include <utility>

#include "fetch/blocked_signals.h"

namespace puzzlefs::fetch {
namespace {

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

void Runtime::post_after(std::chrono::milliseconds delay, std::function<void()> task) {
  auto timer = std::make_shared<boost::asio::steady_timer>(threads_->loop, delay);
  timer->async_wait([this, timer, task = std::move(task)](const boost::system::error_code& error) {
    if (!error) post(task);
  });
}

}  // namespace puzzlefs::fetch
