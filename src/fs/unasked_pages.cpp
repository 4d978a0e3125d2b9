#include "fs/unasked_pages.h"

#include <unistd.h>

#include <algorithm>
#include <utility>

namespace puzzlefs::fs {
namespace {

/// The kernel begins to read ahead with 16 KiB, for a reader of single pages, and goes on with
/// more.
constexpr std::uint64_t kSmallRead = 16 << 10;

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
  // The kernel shows a page only when it has been given all of it, and takes what lies beyond the
  // end of the file for more of the file.
  const auto begin = page_after(from.offset);
  const auto end = piece_end == file.size() ? piece_end : page_before(piece_end);
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

void UnaskedPages::offer(Leftover leftover, fetch::ChunkData chunk) {
  {
    const std::lock_guard lock(mutex_);
    if (is_closed_ || waiting_.size() >= kMaxWaiting) return;
    // Several may read the same piece at once.
    const auto is_same = [&](const Waiting& other) { return other.is_of(leftover); };
    if (std::any_of(waiting_.begin(), waiting_.end(), is_same)) return;
    waiting_.push_back({std::move(leftover), std::move(chunk)});
  }
  changed_.notify_one();
}

void UnaskedPages::serve(const Store& store) {
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [this] { return is_closed_ || !waiting_.empty(); });
    if (is_closed_) return;
    is_storing_ = true;
    const auto& [leftover, chunk] = waiting_.front();  // stays where it is while others are added
    lock.unlock();
    const auto& [piece, position] = leftover.from;
    const auto bytes = ByteView(*chunk).subspan(piece.offset, piece.size);
    for (const auto& range : leftover.ranges) {
      if (is_being_read(leftover.number, range)) continue;
      store(leftover.number, range.begin,
            bytes.subspan(range.begin - position, range.end - range.begin));
    }
    lock.lock();
    is_storing_ = false;
    waiting_.pop_front();
  }
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
