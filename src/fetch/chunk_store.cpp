// Chunks in memory: what was read lately, and what is on its way.
#include "fetch/chunk_store.h"

#include <spdlog/fmt/fmt.h>

#include <utility>

#include "format/error.h"

namespace puzzlefs::fetch {
namespace {

Bytes decompress(ByteView stored) {
  // A context is 160 KB and slow to make. One for each worker, as zstd advises.
  static thread_local format::ChunkDecompressor decompressor;
  return decompressor.decompress(stored);
}

Outcome<ChunkData> unfold(Outcome<Bytes> stored, bool compressed, const format::Digest& digest) {
  if (!stored.ok()) return stored.error();
  try {
    auto& bytes = stored.value();
    return ChunkData(
        std::make_shared<const Bytes>(compressed ? decompress(bytes) : std::move(bytes)));
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

}  // namespace

ChunkStore::ChunkStore(BlobStore& store, const format::Manifest& manifest, std::size_t memory_limit)
    : store_(store), memory_limit_(memory_limit) {
  chunks_.reserve(manifest.layers.size());
  for (const auto& layer : manifest.layers) chunks_.emplace(layer.digest, layer);
}

void ChunkStore::read(const format::ChunkRef& piece, Completion<ChunkData> done) {
  const Key key{piece.blob, piece.compressed};
  ChunkData data;
  {
    const std::lock_guard lock(mutex_);
    data = find_recent(key);
    if (!data) {
      auto& waiting = waiting_[key];
      waiting.push_back({piece, std::move(done)});
      if (waiting.size() > 1) return;  // it is on its way
    }
  }
  if (data) return done(for_piece(piece, data));
  start(key);
}

void ChunkStore::start(const Key& key) {
  try {
    store_.read(descriptor_of(key.digest), [this, key](Outcome<Bytes> stored) {
      finish(key, unfold(std::move(stored), key.compressed, key.digest));
    });
  } catch (...) {
    finish(key, std::current_exception());
  }
}

void ChunkStore::finish(const Key& key, Outcome<ChunkData> outcome) {
  std::vector<Waiter> waiters;
  {
    const std::lock_guard lock(mutex_);
    waiters = std::move(waiting_.extract(key).mapped());
    if (outcome.ok()) keep(key, outcome.value());
  }
  for (const auto& waiter : waiters) {
    waiter.done(outcome.ok() ? for_piece(waiter.piece, outcome.value()) : outcome);
  }
}

ChunkData ChunkStore::find_recent(const Key& key) {
  const auto found = by_key_.find(key);
  if (found == by_key_.end()) return nullptr;
  recent_.splice(recent_.begin(), recent_, found->second);
  return found->second->data;
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
  if (found->second.size > kMaxStoredChunkSize) {
    throw CorruptError(
        fmt::format("The image says that the chunk {} has {} bytes. More than {} are "
                    "not accepted.",
                    digest.to_string(), found->second.size, kMaxStoredChunkSize));
  }
  return found->second;
}

}  // namespace puzzlefs::fetch
