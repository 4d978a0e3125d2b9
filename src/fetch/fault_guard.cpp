// The handler of SIGBUS, and of SIGSEGV for memory that is still to be filled. It runs on the
// thread that touched the page, in the middle of whatever that did, and looks only at a table of
// atomics.
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
  /// An image has a few mappings for its lifetime; else files are mapped while they are hashed, one
  /// by each thread.
  static constexpr std::size_t kMaxRanges = 4096;

  inline static std::array<FaultGuard::Range, kMaxRanges> ranges;
  inline static std::uintptr_t page_size = 0;         // constant once installed
  inline static struct sigaction previous_bus = {};   // the same
  inline static struct sigaction previous_segv = {};  // the same

  static void handle(int signal, siginfo_t* info, void*) {
    const int saved_errno = errno;
    if (!mend(signal, static_cast<std::byte*>(info->si_addr))) {
      // Nothing of ours: returning repeats the access, and then it ends as it would have.
      ::sigaction(signal, signal == SIGBUS ? &previous_bus : &previous_segv, nullptr);
    }
    errno = saved_errno;
  }

  static bool mend(int signal, std::byte* byte) {
    auto* const range = find(reinterpret_cast<std::uintptr_t>(byte));
    if (range == nullptr) return false;
    if (signal == SIGSEGV) {
      auto* const source = range->source.load();
      return source != nullptr && source->fill(byte);
    }
    // First: whoever reads zeros must find this set.
    range->state |= 1U;
    auto* const page = byte - (reinterpret_cast<std::uintptr_t>(byte) & (page_size - 1));
    return ::mmap(page, page_size, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) !=
           MAP_FAILED;
  }

  static FaultGuard::Range* find(std::uintptr_t address) {
    for (auto& range : ranges) {
      const auto start = range.start.load();
      if (start != 0 && address >= start && address < range.end.load()) return &range;
    }
    return nullptr;
  }

  static void install() {
    static const bool kInstalled = [] {
      page_size = static_cast<std::uintptr_t>(::sysconf(_SC_PAGESIZE));
      struct sigaction action {};
      action.sa_sigaction = handle;
      action.sa_flags = SA_SIGINFO | SA_RESTART;
      if (::sigaction(SIGBUS, &action, &previous_bus) != 0) throw_errno("handle SIGBUS");
      if (::sigaction(SIGSEGV, &action, &previous_segv) != 0) throw_errno("handle SIGSEGV");
      return true;
    }();
    static_cast<void>(kInstalled);
  }
};

FaultGuard::FaultGuard(ByteView range, PageSource* source) {
  FaultHandler::install();
  const auto start = reinterpret_cast<std::uintptr_t>(range.data());
  const auto mask = FaultHandler::page_size - 1;
  for (auto& free : FaultHandler::ranges) {
    std::uintptr_t unused = 0;
    if (!free.start.compare_exchange_strong(unused, start)) continue;
    free.state = 0;
    free.source = source;
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
  return (range_->state.load() & 1) == 0;
}

void FaultGuard::set_repaired() {
  if (!intact()) ++range_->state;
}

}  // namespace puzzlefs::fetch
