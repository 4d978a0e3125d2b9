// The count of what is there decides what may be kept, and when the evictor begins.
#include "fetch/cache_room.h"

#include <spdlog/fmt/fmt.h>
#include <spdlog/spdlog.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <limits>
#include <system_error>

#include "fetch/blocked_signals.h"
#include "fetch/cache_upkeep.h"
#include "fetch/file_descriptor.h"
#include "format/error.h"

namespace puzzlefs::fetch {
namespace {

constexpr std::uint64_t kMaxReserve = std::uint64_t{4} << 30;
constexpr std::uint64_t kScarce = 256 << 20;  // so much free space is not much
// When all that is left is pinned or in use, another scan soon would find no more.
constexpr std::chrono::seconds kRest{10};

// How full a cache may become before room is made, and how much is left then.
std::uint64_t headroom_of(std::uint64_t limit) {
  return limit / 16;
}
std::uint64_t after_eviction(std::uint64_t limit) {
  return limit - 2 * headroom_of(limit);
}

/// What should be available of the disk in any case.
std::uint64_t cushion_of(std::uint64_t limit) {
  return std::min(headroom_of(limit), kScarce);
}

/// Whether the file system runs out of inodes, of which a small file takes as many as a large one.
bool lacks_inodes(const struct statvfs& disk) {
  constexpr fsfilcnt_t kLeast = 20;  // one in so many stays free
  return disk.f_files != 0 && disk.f_favail < disk.f_files / kLeast;
}

}  // namespace

CacheRoom::CacheRoom(std::filesystem::path directory, const CacheLimits& limits,
                     CacheTroubles& troubles, Kept kept)
    : directory_(std::move(directory)),
      limits_(limits),
      troubles_(troubles),
      kept_(std::move(kept)),
      usage_(directory_ / "usage") {}

CacheRoom::~CacheRoom() {
  stop_ = true;
  if (evictor_.joinable()) evictor_.join();
}

void CacheRoom::begin(const std::function<bool()>& is_new, const std::function<void()>& make) {
  if (!is_new()) return make();
  const auto succeeds = [](const auto& act) {
    try {
      act();
      return true;
    } catch (const Error& error) {
      spdlog::debug("What is in the cache will have to be counted: {}", error.what());
      return false;
    }
  };
  std::int64_t mark = 0;
  const bool is_marked = succeeds([&] { mark = usage_.mark(); }) && is_new();
  make();
  if (is_marked) succeeds([&] { usage_.set(0, mark); });
}

CacheRoom::Claim::~Claim() {
  try {
    if (given_) room_->give_back(size_);
  } catch (const Error& error) {
    spdlog::debug("Room in the cache stays counted that was not used: {}", error.what());
  }
  // After the write, which would else be missed by the one who counts.
  if (is_tight_) room_->start_eviction(size_);
}

CacheRoom::State CacheRoom::state() const {
  struct statvfs disk {};
  if (::statvfs(directory_.c_str(), &disk) != 0) {
    throw_errno(fmt::format("look at the file system of {}", directory_.native()));
  }
  const auto total = std::uint64_t{disk.f_blocks} * disk.f_frsize;
  const auto free = std::uint64_t{disk.f_bavail} * disk.f_frsize;
  const auto reserve = limits_.reserve.value_or(std::min(total / 20, kMaxReserve));
  const auto limit = limits_.size.value_or(total / 100 * limits_.percent);
  return {.limit = limit,
          .most_pinned = after_eviction(limit),
          .free = free,
          .available = free > reserve && !lacks_inodes(disk) ? free - reserve : 0};
}

// Room is made when the headroom is touched.
bool CacheRoom::fits(std::uint64_t size) {
  const auto now = state();
  if (now.available < cushion_of(now.limit) || now.available - cushion_of(now.limit) < size) {
    return false;
  }
  const auto known = usage_.get();
  const auto used = known ? *known : count().bytes;
  const auto most = now.limit - headroom_of(now.limit);
  return used <= most && size <= most - used;
}

CacheRoom::Claim CacheRoom::claim(std::uint64_t size) {
  const auto needed = disk_size(size);
  const auto now = state();
  const auto count = usage_.add(static_cast<std::int64_t>(needed));
  const auto used = count.value_or(0);
  Claim claim(*this, size);
  claim.given_ = used <= now.limit && needed <= now.available;
  claim.is_tight_ = !count || used > now.limit - headroom_of(now.limit) ||
                    now.available < needed + cushion_of(now.limit);
  if (claim.given_) return claim;
  give_back(size);
  troubles_.warn_once(CacheTrouble::kFull, "Some of what is fetched is not kept for now",
                      "the cache is full, and room is being made");
  return claim;
}

void CacheRoom::give_back(std::uint64_t size) {
  usage_.add(-static_cast<std::int64_t>(disk_size(size)));
}

void CacheRoom::start_eviction(std::uint64_t needed) {
  if (std::chrono::steady_clock::now() < not_before_.load()) return;
  if (evicting_.exchange(true)) return;
  const std::lock_guard lock(evictor_mutex_);
  if (evictor_.joinable()) evictor_.join();
  const BlockedSignals blocked;
  try {
    evictor_ = std::thread([this, needed] {
      evict(needed);
      evicting_ = false;
    });
  } catch (const std::system_error& error) {
    evicting_ = false;
    spdlog::debug("No thread to make room in the cache: {}", error.what());
  }
}

void CacheRoom::evict(std::uint64_t needed) {
  try {
    // One of all programs does it; the others go on meanwhile.
    const auto lock = DirectoryLock::try_lock(directory_ / "tmp");
    if (!lock) return;
    remove_older_than(kTempFileLife, directory_ / "tmp");
    const auto target = eviction_target(needed);
    const auto contents = shrink_alone(target);
    if (contents.bytes > target) not_before_ = std::chrono::steady_clock::now() + kRest;
    spdlog::debug("The cache holds {} blobs and {} files, {} bytes; {} and {} were removed.",
                  contents.blobs, contents.files, contents.bytes, contents.removed,
                  contents.removed_files);
  } catch (const std::exception& error) {
    troubles_.warn_once(CacheTrouble::kFull, "No room can be made in the cache", error.what());
  }
}

// A part of the limit, or if the disk is too full as much less than there is now.
std::uint64_t CacheRoom::eviction_target(std::uint64_t needed) {
  const auto now = state();
  const auto most = after_eviction(now.limit);
  if (now.available >= disk_size(needed) + cushion_of(now.limit)) return most;
  const auto known = usage_.get();
  const auto used = known ? *known : count().bytes;
  return std::min(most, used - std::min(used, headroom_of(now.limit)));
}

CacheContents CacheRoom::count() {
  constexpr auto kEverything = std::numeric_limits<std::uint64_t>::max();
  return shrink_cache(directory_, usage_, kEverything, {}, stop_);
}

CacheContents CacheRoom::shrink(std::uint64_t target) {
  const DirectoryLock lock(directory_ / "tmp");
  return shrink_alone(target);
}

CacheContents CacheRoom::shrink_alone(std::uint64_t target) {
  return shrink_cache(directory_, usage_, target, kept_(), stop_);
}

}  // namespace puzzlefs::fetch
