// Operations that outlive the call that started them, counted, so that their owner can wait for
// them.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <memory>
#include <mutex>

namespace puzzlefs::fetch {

/// Thread-safe.
class InFlight {
 public:
  struct Leave {
    void operator()(InFlight* owner) const { owner->leave(); }
  };
  /// Held by an operation as long as it needs the owner.
  using Token = std::unique_ptr<InFlight, Leave>;

  Token enter();
  std::size_t count();
  /// Returns when no token is held any more.
  void wait_until_none();

 private:
  void leave();

  std::mutex mutex_;
  std::size_t count_ = 0;  // guarded by mutex_
  std::condition_variable none_;
};

}  // namespace puzzlefs::fetch
