// Chunks in memory: what was read lately, and what is on its way.
#include "fetch/chunk_store.h"

#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <utility>

#include "fetch/given_up.h"
#include "format/error.h"

namespace puzzlefs::fetch {
namespace {

Bytes decompress(ByteView stored) {
  // A context is 160 KB and slow to make. One for each worker, as zstd advises.
  static thread_local format::ChunkDecompressor decompressor;
  return decompressor.decompress(stored);
}

Outcome<ChunkData> unfold(Outcome<BlobData>& stored, bool compressed,
                          const format::Digest& digest) {
  if (!stored.ok()) return stored.error();
  try {
    const auto& data = stored.value();
    return compressed ? std::make_shared<const Bytes>(decompress(*data)) : data;
  } catch (const CorruptError& error) {
    return std::make_exception_ptr(CorruptError(
        fmt::format("The chunk {} cannot be decompressed. {}", digest.to_string(), error.what())));
  } catch (...) {
    return std::current_exception();
  }
}

/// The chunk for one reader, if his piece lies inside it.
Outcome<ChunkData> for_piece(const format::ChunkRef& piece, const ChunkData& chunk) {
  const auto size = chunk->size();
  if (piece.offset <= size && piece.size <= size - piece.offset) return chunk;
  return std::make_exception_ptr(CorruptError(
      fmt::format("The image names {} bytes at {} of the chunk {}, which has {} bytes.", piece.size,
                  piece.offset, piece.blob.to_string(), size)));
}

Outcome<ChunkData> given_up() {
  return std::make_exception_ptr(GivenUpError());
}

}  // namespace

ChunkStore::ChunkStore(BlobStore& store, const format::Manifest& manifest, std::size_t memory_limit,
                       FetchStats* stats)
    : store_(store),
      memory_limit_(memory_limit),
      stats_(stats == nullptr ? unused_stats_ : *stats) {
  chunks_.reserve(manifest.layers.size());
  for (const auto& layer : manifest.layers) chunks_.emplace(layer.digest, Stored{layer});
}

ChunkStore::ChunkStore(Runtime& runtime, BlobStore& store, const format::Metadata& metadata,
                       PackReader& packs, std::size_t memory_limit, FetchStats* stats)
    : store_(store),
      memory_limit_(memory_limit),
      stats_(stats == nullptr ? unused_stats_ : *stats),
      runtime_(&runtime),
      metadata_(&metadata),
      packs_(&packs),
      needed_(metadata.chunk_count()),
      read_ahead_(metadata) {}

ChunkStore::~ChunkStore() {
  in_flight_.wait_until_none();
}

void ChunkStore::read(const format::ChunkRef& piece, Completion<ChunkData> done, Purpose purpose,
                      ReaderId reader) {
  // Whoever has his answer may end all this.
  const auto token = in_flight_.enter();
  const Key key{piece.blob, piece.compressed};
  ChunkData data;
  SharedPriority priority;
  bool is_first = false;
  bool is_raised = false;
  std::optional<ChunkWindow> ahead;
  {
    const std::lock_guard lock(mutex_);
    auto* const recent = find_recent(key);
    if (purpose == Purpose::kReader && (recent == nullptr || !recent->is_needed)) {
      note_need(piece);
      if (recent != nullptr) recent->is_needed = true;
    }
    if (recent != nullptr) {
      data = recent->data;
    } else {
      auto place = coming_.find(key);
      is_first = place == coming_.end();
      if (is_first) {
        place = coming_
                    .emplace(key, packs_ ? packed_coming(piece.index, Priority::kReader)
                                         : Coming{.token = in_flight_.enter()})
                    .first;
      }
      auto& coming = place->second;
      priority = coming.priority;
      // Under the lock, since who gives up lowers it again.
      is_raised = priority && priority->exchange(Priority::kReader) != Priority::kReader;
      coming.waiters.push_back({piece, std::move(done), purpose, reader});
      if (coming.is_absent) note_wait(coming);
    }
    if (read_ahead_ && !is_first) ahead = window_of_hit(piece.index);
  }
  if (data) {
    if (purpose == Purpose::kReader) stats_.add_chunks(ChunkOrigin::kMemory, 1);
    done(for_piece(piece, data));
  }
  if (is_first && !packs_) return start_blob(key);
  if (is_first) return post([this, piece, priority] { start_packed(piece, priority); });
  if (is_raised) packs_->raised();
  if (ahead) post([this, window = *ahead] { fetch_window(window); });
}

void ChunkStore::start_blob(const Key& key) {
  try {
    store_.read(
        descriptor_of(key.digest),
        [this, key](Outcome<BlobData> stored) {
          finish(key, unfold(stored, key.compressed, key.digest));
        },
        Answer::kAtOnce, [this, key] { note_absence(key); });
  } catch (...) {
    finish(key, std::current_exception());
  }
}

/// Runs a task on a worker that uses this object.
void ChunkStore::post(std::function<void()> task) {
  const auto token = std::make_shared<InFlight::Token>(in_flight_.enter());
  runtime_->post([token, task = std::move(task)] { task(); });
}

ChunkStore::Coming ChunkStore::packed_coming(format::ChunkIndex index, Priority priority) {
  return {.index = index,
          .priority = std::make_shared<std::atomic<Priority>>(priority),
          .token = in_flight_.enter()};
}

/// Whether it is for the caller to look for a chunk that is coming.
bool ChunkStore::begin(const Key& key) {
  const std::lock_guard lock(mutex_);
  const auto place = coming_.find(key);
  return place != coming_.end() && !std::exchange(place->second.is_begun, true);
}

/// What is not on this machine is fetched together with what lies beside it.
void ChunkStore::start_packed(const format::ChunkRef& piece, const SharedPriority& priority) {
  format::PackedChunk chunk;
  const Key key{piece.blob};
  if (!begin(key)) return;  // it went along with another one
  if (*priority == Priority::kNobody) return finish(key, given_up());
  try {
    chunk = metadata_->chunk(piece.index);
  } catch (...) {
    return finish(key, std::current_exception());
  }
  const PackReader::Hold hold(*packs_);
  if (!fetch(piece.index, chunk, priority) || packs_->is_local()) return;
  fetch_window(window_of_miss(piece.index));
}

/// Whether it has to come from elsewhere.
bool ChunkStore::fetch(format::ChunkIndex index, const format::PackedChunk& chunk,
                       const SharedPriority& priority) {
  format::Descriptor plain;
  plain.digest = chunk.digest;
  plain.size = chunk.size;
  return store_.read_by(
      plain,
      [this, index, priority](Freshness freshness, Completion<Bytes> done) {
        packs_->get(index, priority, freshness, std::move(done));
      },
      [this, key = Key{chunk.digest}](const Outcome<BlobData>& outcome) { finish(key, outcome); },
      priority->load() == Priority::kBackground ? Answer::kWhenKept : Answer::kAtOnce,
      [this, key = Key{chunk.digest}] { note_absence(key); });
}

/// With mutex_ held.
void ChunkStore::start_again(const Key& key, const Coming& chunk) {
  post([this, key, index = chunk.index, priority = chunk.priority] {
    try {
      fetch(index, metadata_->chunk(index), priority);
    } catch (...) {
      finish(key, std::current_exception());
    }
  });
}

void ChunkStore::give_up(ReaderId reader) {
  std::vector<Waiter> answered;
  bool is_lowered = false;
  {
    const std::lock_guard lock(mutex_);
    for (auto& [key, coming] : coming_) {
      const auto before = answered.size();
      std::erase_if(coming.waiters, [&](Waiter& waiter) {
        if (waiter.reader != reader) return false;
        answered.push_back(std::move(waiter));
        return true;
      });
      if (answered.size() == before) continue;
      if (!coming.has_reader()) coming.is_awaited.reset();
      if (!coming.waiters.empty() || !coming.priority) continue;
      coming.priority->store(coming.watched);
      is_lowered = true;
    }
  }
  if (is_lowered) packs_->given_up();
  stats_.add_chunks(ChunkOrigin::kNowhere, count_readers(answered));
  for (const auto& waiter : answered) waiter.done(given_up());
}

void ChunkStore::finish(const Key& key, Outcome<ChunkData> outcome) {
  const bool is_dropped = is_given_up(outcome.error());
  Coming coming;
  {
    const std::lock_guard lock(mutex_);
    const auto place = coming_.find(key);
    // Somebody has come after it was given up.
    if (is_dropped && place->second.is_wanted()) return start_again(key, place->second);
    coming = std::move(coming_.extract(place).mapped());
    const bool only_for_the_cache = coming.waiters.empty() && coming.priority &&
                                    coming.priority->load() == Priority::kBackground;
    if (outcome.ok() && !only_for_the_cache) keep(key, outcome.value());
  }
  // Counted before the answers, so that whoever has his sees it counted.
  coming.is_awaited.reset();
  const auto found = coming.is_absent ? ChunkOrigin::kNetwork : ChunkOrigin::kDisk;
  stats_.add_chunks(outcome.ok() ? found : ChunkOrigin::kNowhere, count_readers(coming.waiters));
  for (const auto& waiter : coming.waiters) {
    waiter.done(outcome.ok() ? for_piece(waiter.piece, outcome.value()) : outcome);
  }
  for (const auto& watcher : coming.watchers) watcher(outcome.ok());
}

void ChunkStore::note_absence(const Key& key) {
  const std::lock_guard lock(mutex_);
  auto& coming = coming_.at(key);
  coming.is_absent = true;
  note_wait(coming);
}

void ChunkStore::note_wait(Coming& chunk) {
  if (!chunk.is_awaited && chunk.has_reader()) chunk.is_awaited = stats_.begin_waiting();
}

std::uint64_t ChunkStore::count_readers(const std::vector<Waiter>& waiters) {
  return static_cast<std::uint64_t>(
      std::count_if(waiters.begin(), waiters.end(),
                    [](const Waiter& waiter) { return waiter.purpose == Purpose::kReader; }));
}

void ChunkStore::note_need(const format::ChunkRef& piece) {
  if (packs_ != nullptr) {
    const auto index = format::to_integer(piece.index);
    if (index >= needed_.size() || needed_[index]) return;
    needed_[index] = true;
    used_.push_back(piece.index);
    try {
      stats_.add_needed(metadata_->chunk(piece.index).stored_size);
    } catch (const Error&) {
      // Whoever fetches the chunk notices.
    }
    return;
  }
  const auto found = chunks_.find(piece.blob);
  if (found == chunks_.end() || found->second.is_needed) return;
  found->second.is_needed = true;
  used_blobs_.push_back(&found->first);
  stats_.add_needed(found->second.blob.size);
}

std::vector<format::Digest> ChunkStore::used() {
  std::vector<format::Digest> digests;
  std::vector<format::ChunkIndex> indexes;
  {
    const std::lock_guard lock(mutex_);
    for (const auto* blob : used_blobs_) digests.push_back(*blob);
    indexes = used_;
  }
  for (const auto index : indexes) digests.push_back(metadata_->chunk(index).digest);
  return digests;
}

ChunkStore::Recent* ChunkStore::find_recent(const Key& key) {
  const auto found = by_key_.find(key);
  if (found == by_key_.end()) return nullptr;
  recent_.splice(recent_.begin(), recent_, found->second);
  return &*found->second;
}

void ChunkStore::keep(const Key& key, const ChunkData& data) {
  recent_.push_front({key, data});
  by_key_[key] = recent_.begin();
  memory_used_ += data->capacity();
  while (memory_used_ > memory_limit_) {
    const auto& oldest = recent_.back();
    memory_used_ -= oldest.data->capacity();
    by_key_.erase(oldest.key);
    recent_.pop_back();
  }
}

const format::Descriptor& ChunkStore::descriptor_of(const format::Digest& digest) const {
  const auto found = chunks_.find(digest);
  if (found == chunks_.end()) {
    throw CorruptError(
        fmt::format("The image's metadata names the chunk {}, which its manifest does not list.",
                    digest.to_string()));
  }
  if (found->second.blob.size > kMaxStoredChunkSize) {
    throw CorruptError(
        fmt::format("The image says that the chunk {} has {} bytes. More than {} are "
                    "not accepted.",
                    digest.to_string(), found->second.blob.size, kMaxStoredChunkSize));
  }
  return found->second.blob;
}

}  // namespace puzzlefs::fetch
