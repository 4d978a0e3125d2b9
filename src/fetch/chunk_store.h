// Chunks as readers want them: verified, uncompressed, in memory, one fetch however many wait.
#pragma once

#include <cstdint>
#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <unordered_map>
#include <vector>

#include "fetch/blob_store.h"
#include "fetch/outcome.h"
#include "format/chunk_codec.h"
#include "format/metadata.h"
#include "format/oci.h"

namespace puzzlefs::fetch {

/// What a stored chunk may have at most: a compressed one is never larger than its content by more
/// than the seek table and frame headers.
inline constexpr std::uint64_t kMaxStoredChunkSize =
    format::kMaxChunkSize + (format::kMaxChunkSize >> 6);

/// The uncompressed bytes of a chunk, shared by all who read them.
using ChunkData = std::shared_ptr<const Bytes>;

/// Thread-safe. Memory is bounded by `memory_limit` plus what readers hold and what is on its way.
class ChunkStore {
 public:
  static constexpr std::size_t kDefaultMemoryLimit = 32 << 20;

  /// Takes the sizes of the stored chunks from `manifest`. `store` must outlive this object and the
  /// operations started on it.
  ChunkStore(BlobStore& store, const format::Manifest& manifest,
             std::size_t memory_limit = kDefaultMemoryLimit);

  /// The chunk that `piece` lies in. Answers at once, on this thread, when the chunk is in memory
  /// or can never be had; else from a worker. Fails with CorruptError when the piece lies outside
  /// the chunk, when the manifest does not list it, or when it is larger than any chunk may be. A
  /// failure is not remembered: the next read tries anew.
  void read(const format::ChunkRef& piece, Completion<ChunkData> done);

 private:
  /// A blob that metadata names both as compressed and as not gives two different chunks.
  struct Key {
    format::Digest digest;
    bool compressed = false;

    bool operator==(const Key&) const = default;
  };
  struct KeyHash {
    std::size_t operator()(const Key& key) const noexcept {
      return std::hash<format::Digest>()(key.digest) ^ static_cast<std::size_t>(key.compressed);
    }
  };
  struct Recent {
    Key key;
    ChunkData data;
  };
  struct Waiter {
    format::ChunkRef piece;
    Completion<ChunkData> done;
  };

  void start(const Key& key);
  void finish(const Key& key, Outcome<ChunkData> outcome);
  ChunkData find_recent(const Key& key);             // with mutex_ held
  void keep(const Key& key, const ChunkData& data);  // with mutex_ held
  const format::Descriptor& descriptor_of(const format::Digest& digest) const;

  BlobStore& store_;
  std::unordered_map<format::Digest, format::Descriptor> chunks_;  // constant after construction
  const std::size_t memory_limit_;

  std::mutex mutex_;          // guards all below
  std::list<Recent> recent_;  // most recently used first
  std::unordered_map<Key, std::list<Recent>::iterator, KeyHash> by_key_;
  std::unordered_map<Key, std::vector<Waiter>, KeyHash> waiting_;  // for what is on its way
  std::size_t memory_used_ = 0;
};

}  // namespace puzzlefs::fetch
