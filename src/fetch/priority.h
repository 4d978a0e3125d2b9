// Who goes first.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>

namespace puzzlefs::fetch {

/// How urgent a chunk is, the most urgent first.
enum class Priority : std::uint8_t {
  kReader,      // somebody waits for it
  kReadAhead,   // somebody is about to want it
  kPrefetch,    // a start is expected to want it
  kBackground,  // it shall be here some day
  kNobody,      // whoever wanted it has given it up
};

/// A chunk's priority, which rises when somebody more urgent wants it, and falls when he gives up.
using SharedPriority = std::shared_ptr<std::atomic<Priority>>;

}  // namespace puzzlefs::fetch
