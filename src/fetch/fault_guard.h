// Mapped memory whose file turns out to be unreadable: cut short by somebody, on a broken disk, or
// tampered with where fs-verity protects it. The kernel's word for that is SIGBUS, which ends a
// process unless it is handled.
#pragma once

#include <atomic>
#include <cstdint>
#include <utility>

#include "format/bytes.h"

namespace puzzlefs::fetch {

/// While it lives, a page in a range of mapped memory that cannot be read reads as zeros instead of
/// ending the process, and intact() is false from before the first such byte is seen. So: use what
/// was read only if intact() is true afterwards. Movable.
///
/// The kernel itself, given such memory in a system call, answers EFAULT and leaves intact() true.
class FaultGuard {
 public:
  FaultGuard() = default;
  /// `range` must be whole pages but for its end, mapped until this object is destroyed. Throws
  /// Error when there are more ranges than a process can be meant to have.
  explicit FaultGuard(ByteView range);
  ~FaultGuard();
  FaultGuard(FaultGuard&& other) noexcept : range_(std::exchange(other.range_, nullptr)) {}
  FaultGuard& operator=(FaultGuard&& other) noexcept {
    std::swap(range_, other.range_);
    return *this;
  }

  bool intact() const;

 private:
  friend struct FaultHandler;
  struct Range {
    std::atomic<std::uintptr_t> start = 0;  // 0: not in use
    std::atomic<std::uintptr_t> end = 0;
    std::atomic<bool> damaged = false;
  };

  Range* range_ = nullptr;  // in a table that is never freed
};

}  // namespace puzzlefs::fetch
