// The handler of SIGBUS. It runs on the thread that touched the page, in the middle of whatever
// that did, and looks only at a table of atomics.
#include "fetch/fault_guard.h"

#include <sys/mman.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstddef>
#include <cstdint>

#include "format/error.h"

namespace puzzlefs::fetch {

struct FaultHandler {
  /// An image has one mapping for its lifetime; else files are mapped while they are hashed, one by
  /// each thread.
  static constexpr std::size_t kMaxRanges = 4096;

  inline static std::array<FaultGuard::Range, kMaxRanges> ranges;
  inline static std::uintptr_t page_size = 0;    // constant once installed
  inline static struct sigaction previous = {};  // constant once installed

  static void handle(int, siginfo_t* info, void*) {
    const int saved_errno = errno;
    if (!replace_page(static_cast<std::byte*>(info->si_addr))) {
      // Nothing of ours: returning repeats the access, and then it ends as it would have.
      ::sigaction(SIGBUS, &previous, nullptr);
    }
    errno = saved_errno;
  }

  static bool replace_page(std::byte* byte) {
    const auto address = reinterpret_cast<std::uintptr_t>(byte);
    for (auto& range : ranges) {
      const auto start = range.start.load();
      if (start == 0 || address < start || address >= range.end.load()) continue;
      // First: whoever reads zeros must find this set.
      range.damaged = true;
      auto* const page = byte - (address & (page_size - 1));
      return ::mmap(page, page_size, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) !=
             MAP_FAILED;
    }
    return false;
  }

  static void install() {
    static const bool kInstalled = [] {
      page_size = static_cast<std::uintptr_t>(::sysconf(_SC_PAGESIZE));
      struct sigaction action {};
      action.sa_sigaction = handle;
      action.sa_flags = SA_SIGINFO | SA_RESTART;
      if (::sigaction(SIGBUS, &action, &previous) != 0) throw_errno("handle SIGBUS");
      return true;
    }();
    static_cast<void>(kInstalled);
  }
};

FaultGuard::FaultGuard(ByteView range) {
  FaultHandler::install();
  const auto start = reinterpret_cast<std::uintptr_t>(range.data());
  const auto mask = FaultHandler::page_size - 1;
  for (auto& free : FaultHandler::ranges) {
    std::uintptr_t unused = 0;
    if (!free.start.compare_exchange_strong(unused, start)) continue;
    free.damaged = false;
    free.end = (start + range.size() + mask) & ~mask;
    range_ = &free;
    return;
  }
  throw Error(EMFILE, "More files are mapped into memory at once than this program can watch.");
}

FaultGuard::~FaultGuard() {
  if (range_ == nullptr) return;
  range_->end = 0;
  range_->start = 0;
}

/// What was read before this call must not be read after the flag: hence a fence, which g++ does
/// not have for its thread sanitizer.
bool FaultGuard::intact() const {
  if (range_ == nullptr) return true;
#ifdef __SANITIZE_THREAD__
  std::atomic_signal_fence(std::memory_order_acquire);
#else
  std::atomic_thread_fence(std::memory_order_acquire);
#endif
  return !range_->damaged.load();
}

}  // namespace puzzlefs::fetch
