#include "fs/unasked_pages.h"

#include <unistd.h>

#include <algorithm>
#include <new>
#include <utility>

namespace puzzlefs::fs {
namespace {

/// How much is stored at once: in the time that it takes the kernel may begin to read some of it.
constexpr std::uint64_t kSlice = 64 << 10;
/// How long a busy kernel is waited for, and how often.
constexpr std::chrono::microseconds kPause(100);
constexpr int kPatience = 10;

std::uint64_t page_size() {
  static const auto kSize = static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
  return kSize;
}

std::uint64_t page_before(std::uint64_t offset) {
  return offset / page_size() * page_size();
}

std::uint64_t page_after(std::uint64_t offset) {
  return page_before(offset + page_size() - 1);
}

}  // namespace

std::optional<Leftover> leftover_of(const OpenFile& file, std::uint64_t offset,
                                    std::uint64_t size) {
  if (size > kSmallRead || offset >= file.size() || size >= file.size() - offset) return {};
  const auto from = file.piece_at(offset);
  const auto piece_end = from.offset + from.piece.size;
  if (offset == from.offset || offset + size > piece_end) return {};
  // The kernel shows a page only when it has been given all of it. What a last page has beyond the
  // end of the file it leaves as it was before Linux 6.11 (CVE-2024-44947).
  const auto begin = page_after(from.offset);
  const auto end = page_before(piece_end);
  Leftover leftover{.number = file.number(), .from = from, .ranges = {}};
  for (const auto& range :
       {FileRange{begin, page_before(offset)}, FileRange{page_after(offset + size), end}}) {
    if (range.begin < range.end) leftover.ranges.push_back(range);
  }
  if (leftover.ranges.empty()) return {};
  return leftover;
}

Reading::Reading(UnaskedPages& pages, format::InodeNumber number, FileRange range)
    : pages_(pages), number_(number), range_(range) {
  const std::lock_guard lock(pages_.mutex_);
  place_ = pages_.readings_.insert(pages_.readings_.end(), this);
}

Reading::~Reading() {
  const std::lock_guard lock(pages_.mutex_);
  pages_.readings_.erase(place_);
}

WatchedRead UnaskedPages::watch(const OpenFile& file, std::uint64_t offset, std::uint64_t size,
                                bool leaves_over) {
  const FileRange range{offset, offset + size};
  return {.reading = std::make_unique<Reading>(*this, file.number(), range),
          .leftover = leaves_over ? leftover_of(file, offset, size) : std::nullopt};
}

void UnaskedPages::offer(Leftover leftover, fetch::ChunkData chunk) noexcept {
  try {
    const std::lock_guard lock(mutex_);
    if (is_closed_ || waiting_.size() >= kMaxWaiting) return;
    // Several may read the same piece at once.
    const auto is_same = [&](const Waiting& other) { return other.is_of(leftover); };
    if (std::any_of(waiting_.begin(), waiting_.end(), is_same)) return;
    waiting_.push_back({std::move(leftover), std::move(chunk)});
  } catch (const std::bad_alloc&) {
    return;  // it is a hint
  }
  changed_.notify_one();
}

void UnaskedPages::serve(const Kernel& kernel) {
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [this] { return is_closed_ || !waiting_.empty(); });
    if (is_closed_) return;
    is_storing_ = true;
    const Waiting& first = waiting_.front();  // stays where it is while others are added
    lock.unlock();
    store(first, kernel);
    lock.lock();
    is_storing_ = false;
    waiting_.pop_front();
  }
}

void UnaskedPages::store(const Waiting& waiting, const Kernel& kernel) {
  const auto& [leftover, chunk] = waiting;
  const auto& [piece, position] = leftover.from;
  const auto bytes = ByteView(*chunk).subspan(piece.offset, piece.size);
  for (const auto& range : leftover.ranges) {
    for (auto begin = range.begin; begin < range.end; begin += kSlice) {
      const FileRange slice{begin, std::min(begin + kSlice, range.end)};
      if (!may_store(leftover.number, slice, kernel)) continue;
      kernel.store(leftover.number, slice.begin,
                   bytes.subspan(slice.begin - position, slice.end - slice.begin));
    }
  }
}

/// Asks for requests first: one that is taken in between is among the readings then.
bool UnaskedPages::may_store(format::InodeNumber number, const FileRange& range,
                             const Kernel& kernel) {
  for (int i = 0; i < kPatience; ++i) {
    if (!kernel.has_request()) return !is_being_read(number, range);
    if (is_closed_after(kPause)) return false;
  }
  return false;
}

bool UnaskedPages::is_closed_after(std::chrono::microseconds pause) {
  std::unique_lock lock(mutex_);
  return changed_.wait_for(lock, pause, [this] { return is_closed_; });
}

bool UnaskedPages::is_being_read(format::InodeNumber number, const FileRange& range) {
  const std::lock_guard lock(mutex_);
  return std::any_of(readings_.begin(), readings_.end(), [&](const Reading* reading) {
    return reading->covers_some_of(number, range);
  });
}

void UnaskedPages::close() {
  {
    const std::lock_guard lock(mutex_);
    is_closed_ = true;
    waiting_.erase(waiting_.begin() + static_cast<std::ptrdiff_t>(is_storing_), waiting_.end());
  }
  changed_.notify_all();
}

}  // namespace puzzlefs::fs
