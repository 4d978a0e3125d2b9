// What is fetched ahead of the readers of a packed image.
#include <algorithm>
#include <utility>

#include "fetch/chunk_store.h"
#include "format/error.h"

namespace puzzlefs::fetch {

// A malformed table of chunks is for those to notice who read what it is about.
std::optional<ChunkWindow> ChunkStore::window_of_hit(format::ChunkIndex index) {
  try {
    return read_ahead_->on_hit(index);
  } catch (const Error&) {
    return std::nullopt;
  }
}

ChunkWindow ChunkStore::window_of_miss(format::ChunkIndex index) {
  const std::lock_guard lock(mutex_);
  try {
    return packs_->has_ranges() ? read_ahead_->on_miss(index) : read_ahead_->whole_pack(index);
  } catch (const Error&) {
    return {};
  }
}

void ChunkStore::fetch_window(const ChunkWindow& window) {
  const PackReader::Hold hold(*packs_);
  const auto end = format::to_integer(window.end);
  try {
    for (auto i = format::to_integer(window.first); i < end; ++i) {
      ask(format::ChunkIndex{i}, Priority::kReadAhead, {});
    }
  } catch (const Error&) {
    return;
  }
}

/// Sees to it that a chunk comes that is not here.
void ChunkStore::ask(format::ChunkIndex index, Priority priority, Watcher watcher) {
  const auto chunk = metadata_->chunk(index);
  const bool is_cached = store_.is_cached(chunk.digest);
  SharedPriority shared;
  {
    const std::lock_guard lock(mutex_);
    const Key key{chunk.digest};
    const bool is_here = is_cached || by_key_.contains(key);
    if (!is_here) {
      const auto place = coming_.find(key);
      auto& coming = place != coming_.end()
                         ? place->second
                         : coming_.emplace(key, packed_coming(index, priority)).first->second;
      if (watcher) watch(coming, priority, std::exchange(watcher, {}));
      if (!std::exchange(coming.is_begun, true)) shared = coming.priority;
    }
  }
  if (shared) fetch(index, chunk, shared);
  if (watcher) watcher(true);  // it is here
}

/// With mutex_ held.
void ChunkStore::watch(Coming& chunk, Priority priority, Watcher watcher) {
  chunk.watchers.push_back(std::move(watcher));
  chunk.watched = std::min(chunk.watched, priority);
  auto given_up = Priority::kNobody;
  chunk.priority->compare_exchange_strong(given_up, priority);
}

/// Asks for chunks some at a time, so that nobody waits long for the workers.
class ChunkStore::Prefetch : public std::enable_shared_from_this<Prefetch> {
 public:
  Prefetch(ChunkStore& store, std::vector<format::ChunkIndex> chunks, Priority priority,
           Completion<std::size_t> done)
      : store_(store),
        chunks_(std::move(chunks)),
        priority_(priority),
        done_(std::move(done)),
        missing_(chunks_.size() + 1) {}

  void step() {
    {
      const PackReader::Hold hold(*store_.packs_);
      for (std::size_t i = 0; i < kStep && next_ < chunks_.size(); ++i) ask(chunks_[next_++]);
    }
    if (next_ == chunks_.size()) return count(true);
    store_.post([self = shared_from_this()] { self->step(); });
  }

 private:
  static constexpr std::size_t kStep = 64;

  void ask(format::ChunkIndex index) {
    try {
      store_.ask(index, priority_, [self = shared_from_this()](bool ok) { self->count(ok); });
    } catch (const std::exception&) {
      count(false);
    }
  }

  void count(bool ok) {
    if (!ok) ++failed_;
    if (--missing_ == 0) done_(failed_.load());
  }

  ChunkStore& store_;
  const std::vector<format::ChunkIndex> chunks_;
  const Priority priority_;
  const Completion<std::size_t> done_;
  std::size_t next_ = 0;  // used by one task at a time
  std::atomic<std::size_t> missing_;
  std::atomic<std::size_t> failed_ = 0;
};

void ChunkStore::prefetch(std::vector<format::ChunkIndex> chunks, Priority priority,
                          Completion<std::size_t> done) {
  const auto job = std::make_shared<Prefetch>(*this, std::move(chunks), priority, std::move(done));
  post([job] { job->step(); });
}

}  // namespace puzzlefs::fetch
