#include "build/buffer_pool.h"

#include <utility>

namespace puzzlefs::build {

BufferPool::BufferPool(std::size_t count, std::size_t buffer_size)
    : buffer_size_(buffer_size), not_made_yet_(count) {
  idle_.reserve(count);  // so that give_back() cannot throw
}

std::shared_ptr<Bytes> BufferPool::take() {
  std::unique_ptr<Bytes> buffer;
  {
    std::unique_lock lock(mutex_);
    returned_.wait(lock, [this] { return not_made_yet_ > 0 || !idle_.empty(); });
    if (!idle_.empty()) {
      buffer = std::move(idle_.back());
      idle_.pop_back();
    } else {
      --not_made_yet_;
    }
  }
  if (!buffer) buffer = std::make_unique<Bytes>(buffer_size_);
  return {buffer.release(), [this](Bytes* used) { give_back(std::unique_ptr<Bytes>(used)); }};
}

void BufferPool::give_back(std::unique_ptr<Bytes> buffer) {
  // Notified under the lock: a taker that is served may be the one who destroys the pool.
  const std::lock_guard lock(mutex_);
  idle_.push_back(std::move(buffer));
  returned_.notify_one();
}

}  // namespace puzzlefs::build
