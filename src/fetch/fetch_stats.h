// What was fetched and what for: counters that are added to where it happens.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <mutex>

namespace puzzlefs::fetch {

/// The counters at one moment. All of them only grow.
struct FetchCounts {
  /// HTTP requests that a server answered, with whatever status: for manifests, blobs and access
  /// tokens, and those that were redirected, refused or tried anew, each once.
  std::uint64_t requests = 0;
  /// Bodies of their answers, as they came over the network.
  std::uint64_t bytes_fetched = 0;
  /// Of those, what came until the image was open: manifests and metadata mostly.
  std::uint64_t bytes_fetched_to_open = 0;
  /// Of the chunks that readers asked for, each once and as it is stored, wherever it was. With an
  /// empty cache bytes_fetched less bytes_fetched_to_open would be this if nothing was fetched in
  /// vain.
  std::uint64_t bytes_needed = 0;

  /// How often a reader asked for a chunk, by where it was: in memory, on this machine, elsewhere.
  /// One that another process with the same cache was fetching was elsewhere.
  std::uint64_t chunks_from_memory = 0;
  std::uint64_t chunks_from_disk = 0;
  std::uint64_t chunks_from_network = 0;
  /// How often a reader did not get it.
  std::uint64_t chunks_failed = 0;
  /// How long at least one reader was waiting for a chunk that was elsewhere. Those who wait at the
  /// same time do not make it longer.
  std::chrono::nanoseconds time_waited{0};

  bool operator==(const FetchCounts&) const = default;
};

/// Where a chunk was found, if it was.
enum class ChunkOrigin { kMemory, kDisk, kNetwork, kNowhere };

/// Thread-safe. But for a reader who begins or ends to wait for the network, adding takes no lock
/// and does not look at a clock.
class FetchStats {
 public:
  struct EndWaiting {
    void operator()(FetchStats* stats) const { stats->end_waiting(); }
  };
  /// Held as long as a reader waits for the network.
  using Waiting = std::unique_ptr<FetchStats, EndWaiting>;

  FetchStats() = default;
  FetchStats(const FetchStats&) = delete;
  FetchStats& operator=(const FetchStats&) = delete;

  void add_request() { add(requests_, 1); }
  void add_fetched(std::uint64_t bytes) { add(bytes_fetched_, bytes); }
  /// All that was fetched so far was to open the image.
  void mark_opened() { bytes_fetched_to_open_ = bytes_fetched_.load(); }
  void add_needed(std::uint64_t bytes) { add(bytes_needed_, bytes); }
  /// `count` readers asked for a chunk that was found there.
  void add_chunks(ChunkOrigin origin, std::uint64_t count);
  [[nodiscard]] Waiting begin_waiting();

  FetchCounts snapshot() const;

 private:
  using Clock = std::chrono::steady_clock;
  using Counter = std::atomic<std::uint64_t>;

  static void add(Counter& counter, std::uint64_t number) {
    counter.fetch_add(number, std::memory_order_relaxed);
  }
  void end_waiting();

  Counter requests_ = 0;
  Counter bytes_fetched_ = 0;
  Counter bytes_fetched_to_open_ = 0;
  Counter bytes_needed_ = 0;
  Counter chunks_from_memory_ = 0;
  Counter chunks_from_disk_ = 0;
  Counter chunks_from_network_ = 0;
  Counter chunks_failed_ = 0;

  mutable std::mutex mutex_;  // guards all below
  std::uint64_t waiting_ = 0;
  Clock::time_point waiting_since_;  // if any
  Clock::duration waited_{0};        // before
};

}  // namespace puzzlefs::fetch
