// The counter of operations on their way.
#include "fetch/in_flight.h"

namespace puzzlefs::fetch {

InFlight::Token InFlight::enter() {
  const std::lock_guard lock(mutex_);
  ++count_;
  return Token(this);
}

std::size_t InFlight::count() {
  const std::lock_guard lock(mutex_);
  return count_;
}

void InFlight::wait_until_none() {
  std::unique_lock lock(mutex_);
  none_.wait(lock, [this] { return count_ == 0; });
}

void InFlight::leave() {
  // Notified under the lock: the owner may destroy this object as soon as it can see the zero.
  const std::lock_guard lock(mutex_);
  if (--count_ == 0) none_.notify_all();
}

}  // namespace puzzlefs::fetch
