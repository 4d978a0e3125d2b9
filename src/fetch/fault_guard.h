// Mapped memory whose file turns out to be unreadable: cut short by somebody, on a broken disk, or
// tampered with where fs-verity protects it. The kernel's word for that is SIGBUS, which ends a
// process unless it is handled.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <utility>

#include "format/bytes.h"

namespace puzzlefs::fetch {

/// Gives the bytes of memory that cannot be read yet.
class PageSource {
 public:
  virtual ~PageSource() = default;
  /// Makes the memory at this address readable, with the right bytes, or with zeros after it has
  /// called FaultGuard::set_damaged(); false if it cannot do even that. Runs on the thread that
  /// touched it, in the middle of that: it must not touch the range itself, nor wait for a thread
  /// that does.
  virtual bool fill(std::byte* address) noexcept = 0;
};

/// While it lives, a page in a range of mapped memory that cannot be read reads as zeros instead of
/// ending the process, and intact() is false from before the first such byte is seen. So: use what
/// was read only if intact() is true afterwards. Movable.
///
/// The kernel itself, given such memory in a system call, answers EFAULT and leaves intact() true.
class FaultGuard {
 public:
  FaultGuard() = default;
  /// `range` must be whole pages but for its end, mapped until this object is destroyed. What of it
  /// must not be accessed is asked of `source` first, if there is one, which must outlive this
  /// object. Throws Error when there are more ranges than a process can be meant to have.
  explicit FaultGuard(ByteView range, PageSource* source = nullptr);
  ~FaultGuard();
  FaultGuard(FaultGuard&& other) noexcept : range_(std::exchange(other.range_, nullptr)) {}
  FaultGuard& operator=(FaultGuard&& other) noexcept {
    std::swap(range_, other.range_);
    return *this;
  }

  bool intact() const;
  /// Odd while it is not intact. Valid as long as this object; not for an empty one.
  const std::atomic<std::uint64_t>& state() const { return range_->state; }
  /// Some of it cannot be read.
  void set_damaged() { range_->state |= 1U; }
  /// What could not be read can be from now on.
  void set_repaired();

 private:
  friend struct FaultHandler;
  struct Range {
    std::atomic<std::uintptr_t> start = 0;  // 0: not in use
    std::atomic<std::uintptr_t> end = 0;
    std::atomic<PageSource*> source = nullptr;
    std::atomic<std::uint64_t> state = 0;
  };

  Range* range_ = nullptr;  // in a table that is never freed
};

}  // namespace puzzlefs::fetch
