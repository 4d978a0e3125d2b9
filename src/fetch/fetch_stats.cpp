// Counting what is fetched.
#include "fetch/fetch_stats.h"

namespace puzzlefs::fetch {

void FetchStats::add_chunks(ChunkOrigin origin, std::uint64_t count) {
  switch (origin) {
    case ChunkOrigin::kMemory:
      return add(chunks_from_memory_, count);
    case ChunkOrigin::kDisk:
      return add(chunks_from_disk_, count);
    case ChunkOrigin::kNetwork:
      return add(chunks_from_network_, count);
    case ChunkOrigin::kNowhere:
      return add(chunks_failed_, count);
  }
}

FetchStats::Waiting FetchStats::begin_waiting() {
  const std::lock_guard lock(mutex_);
  if (waiting_++ == 0) waiting_since_ = Clock::now();
  return Waiting(this);
}

void FetchStats::end_waiting() {
  const std::lock_guard lock(mutex_);
  if (--waiting_ == 0) waited_ += Clock::now() - waiting_since_;
}

FetchCounts FetchStats::snapshot() const {
  FetchCounts counts{.requests = requests_,
                     .bytes_fetched = bytes_fetched_,
                     .bytes_fetched_to_open = bytes_fetched_to_open_,
                     .bytes_needed = bytes_needed_,
                     .chunks_from_memory = chunks_from_memory_,
                     .chunks_from_disk = chunks_from_disk_,
                     .chunks_from_network = chunks_from_network_,
                     .chunks_failed = chunks_failed_};
  const std::lock_guard lock(mutex_);
  counts.time_waited = waited_;
  if (waiting_ > 0) counts.time_waited += Clock::now() - waiting_since_;
  return counts;
}

}  // namespace puzzlefs::fetch
