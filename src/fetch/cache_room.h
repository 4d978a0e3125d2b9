// How much a cache may hold, and making room in it.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <mutex>
#include <optional>
#include <thread>
#include <unordered_set>
#include <utility>

#include "fetch/cache_eviction.h"
#include "fetch/cache_troubles.h"
#include "fetch/cache_usage.h"
#include "format/digest.h"

namespace puzzlefs::fetch {

/// How large a cache may become. Several programs with different limits may share one: each keeps
/// to its own.
struct CacheLimits {
  /// In bytes; nothing means `percent` of the file system.
  std::optional<std::uint64_t> size;
  unsigned percent = 25;
  /// What it leaves free of the file system in any case; nothing means a twentieth of it, but 4 GiB
  /// at most.
  std::optional<std::uint64_t> reserve;
};

/// The room of a cache, shared by all that is kept in it. Room is made ahead of need: until there
/// is some what arrives is not kept. Thread-safe.
class CacheRoom {
 public:
  /// The blobs that stay whatever has to go. Called on any thread; may throw Error.
  using Kept = std::function<std::unordered_set<format::Digest>()>;

  /// `troubles`, and what `kept` uses, must outlive this object.
  CacheRoom(std::filesystem::path directory, const CacheLimits& limits, CacheTroubles& troubles,
            Kept kept);
  ~CacheRoom();
  CacheRoom(const CacheRoom&) = delete;
  CacheRoom& operator=(const CacheRoom&) = delete;

  /// Room for one file, counted from now on. On destruction it is given back unless it was used,
  /// and an eviction begins if it is time for one. The CacheRoom must outlive it.
  class Claim {
   public:
    ~Claim();
    Claim(Claim&& other) noexcept
        : room_(std::exchange(other.room_, nullptr)),
          size_(std::exchange(other.size_, 0)),
          given_(std::exchange(other.given_, false)),
          is_tight_(std::exchange(other.is_tight_, false)) {}
    Claim& operator=(Claim&&) = delete;

    /// Whether there is room.
    explicit operator bool() const { return given_; }
    /// The file is in its place.
    void use() { given_ = false; }

   private:
    friend class CacheRoom;
    Claim(CacheRoom& room, std::uint64_t size) : room_(&room), size_(size) {}

    CacheRoom* room_;
    std::uint64_t size_;
    bool given_ = false;     // and not used yet
    bool is_tight_ = false;  // room should be made
  };

  /// Asks for room for a file of that size. Throws Error if it cannot be counted.
  Claim claim(std::uint64_t size);
  /// A file of that size was deleted or replaced. Throws Error.
  void give_back(std::uint64_t size);

  /// Whether so many bytes find room without anything being deleted for them. Counts what is there
  /// if nobody has. Throws Error.
  bool fits(std::uint64_t size);

  struct State {
    std::uint64_t limit = 0;        // of the cache
    std::uint64_t most_pinned = 0;  // of that
    std::uint64_t free = 0;         // on the disk
    std::uint64_t available = 0;    // of that, beyond the reserve
  };
  /// What there is now: other programs use the disk too. Throws Error.
  State state() const;

  /// Counts what is there. Throws Error.
  CacheContents count();
  /// Deletes what was used least recently until `target` bytes are left. Waits for others who do
  /// so. Throws Error.
  CacheContents shrink(std::uint64_t target);

  /// Makes the directories of a cache with `make`. If they are new, which `is_new` tells, it is
  /// known without looking that nothing is there but what others have kept meanwhile. Throws what
  /// `make` throws.
  void begin(const std::function<bool()>& is_new, const std::function<void()>& make);

 private:
  void start_eviction(std::uint64_t needed);
  void evict(std::uint64_t needed);
  std::uint64_t eviction_target(std::uint64_t needed);
  CacheContents shrink_alone(std::uint64_t target);

  const std::filesystem::path directory_;
  const CacheLimits limits_;
  CacheTroubles& troubles_;
  const Kept kept_;
  CacheUsage usage_;

  std::mutex evictor_mutex_;  // guards evictor_
  std::thread evictor_;
  std::atomic<bool> evicting_ = false;
  std::atomic<std::chrono::steady_clock::time_point> not_before_{};  // is the next eviction of use
  std::atomic<bool> stop_ = false;                                   // the evictor is to end
};

}  // namespace puzzlefs::fetch
