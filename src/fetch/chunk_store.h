// Chunks as readers want them: verified, uncompressed, in memory, one fetch however many wait.
// Those of packed images are also fetched ahead of readers.
#pragma once

#include <cstdint>
#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <optional>
#include <unordered_map>
#include <vector>

#include "fetch/blob_store.h"
#include "fetch/fetch_stats.h"
#include "fetch/in_flight.h"
#include "fetch/outcome.h"
#include "fetch/pack_reader.h"
#include "fetch/read_ahead.h"
#include "fetch/runtime.h"
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

/// Who reads a chunk: somebody who wants its contents, which is counted, or the housekeeping.
enum class Purpose { kReader, kBackground };

/// One of those who read, for whom the address of anything of his own stands; null is nobody who
/// gives up.
using ReaderId = const void*;

/// Thread-safe. Memory is bounded by `memory_limit` plus what readers hold and what is on its way.
class ChunkStore {
 public:
  static constexpr std::size_t kDefaultMemoryLimit = 32 << 20;

  /// Of an image whose chunks are blobs of their own: takes their stored sizes from `manifest`.
  /// `store`, and `stats` if given, must outlive this object, and all the operations started on it.
  ChunkStore(BlobStore& store, const format::Manifest& manifest,
             std::size_t memory_limit = kDefaultMemoryLimit, FetchStats* stats = nullptr);
  /// Of a packed image. All must outlive this object.
  ChunkStore(Runtime& runtime, BlobStore& store, const format::Metadata& metadata,
             PackReader& packs, std::size_t memory_limit = kDefaultMemoryLimit,
             FetchStats* stats = nullptr);
  /// Waits for what was asked for ahead of a packed image, so close its source first.
  ~ChunkStore();
  ChunkStore(const ChunkStore&) = delete;
  ChunkStore& operator=(const ChunkStore&) = delete;

  /// The chunk that `piece` lies in. Answers at once, on this thread, when the chunk is in memory
  /// or can never be had; else from a worker. Fails with CorruptError when the piece lies outside
  /// the chunk, when the manifest does not list it, or when it is larger than any chunk may be. A
  /// failure is not remembered: the next read tries anew.
  void read(const format::ChunkRef& piece, Completion<ChunkData> done,
            Purpose purpose = Purpose::kReader, ReaderId reader = nullptr);
  /// That reader wants nothing any more of what he waits for: it fails with GivenUpError, on this
  /// thread. Of a packed image what nobody else wants is not asked for, and a request for nothing
  /// else is cancelled. Others who want the same do not notice.
  void give_up(ReaderId reader);

  /// Gets those chunks of a packed image that are neither in memory nor in the cache, in that
  /// order. `done` gets the number of those that could not be had, on a worker. Those of the
  /// background are not kept in memory, and have come when the cache has them or will not keep
  /// them.
  void prefetch(std::vector<format::ChunkIndex> chunks, Priority priority,
                Completion<std::size_t> done);

  /// What readers have asked for so far, each once, in the order of first use, as format::Trace has
  /// it. Throws CorruptError for malformed metadata.
  std::vector<format::Digest> used();

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
  struct Stored {
    format::Descriptor blob;  // constant
    bool is_needed = false;   // a reader has asked for it
  };
  struct Recent {
    Key key;
    ChunkData data;
    bool is_needed = false;  // as in Stored, so that most reads need not look there
  };
  struct Waiter {
    format::ChunkRef piece;
    Completion<ChunkData> done;
    Purpose purpose;
    ReaderId reader;
  };
  /// Told whether a chunk that was asked for ahead has come.
  using Watcher = std::function<void(bool ok)>;
  /// A chunk on its way.
  struct Coming {
    std::vector<Waiter> waiters = {};
    bool is_absent = false;                    // from this machine
    FetchStats::Waiting is_awaited = nullptr;  // by a reader, from elsewhere; may be null
    // Of a packed image:
    format::ChunkIndex index{};
    SharedPriority priority = nullptr;
    Priority watched = Priority::kNobody;  // what it is without readers
    bool is_begun = false;                 // that it is looked for
    std::vector<Watcher> watchers = {};
    InFlight::Token token = nullptr;

    bool is_wanted() const { return !waiters.empty() || !watchers.empty(); }
    bool has_reader() const { return count_readers(waiters) > 0; }
  };
  class Prefetch;

  Coming packed_coming(format::ChunkIndex index, Priority priority);
  void start_blob(const Key& key);
  bool begin(const Key& key);
  void start_packed(const format::ChunkRef& piece, const SharedPriority& priority);
  bool fetch(format::ChunkIndex index, const format::PackedChunk& chunk,
             const SharedPriority& priority);
  void fetch_window(const ChunkWindow& window);
  std::optional<ChunkWindow> window_of_hit(format::ChunkIndex index);  // with mutex_ held
  ChunkWindow window_of_miss(format::ChunkIndex index);
  void ask(format::ChunkIndex index, Priority priority, Watcher watcher);
  void watch(Coming& chunk, Priority priority, Watcher watcher);  // with mutex_ held
  void post(std::function<void()> task);
  void finish(const Key& key, Outcome<ChunkData> outcome);
  void start_again(const Key& key, const Coming& chunk);
  void note_absence(const Key& key);
  static std::uint64_t count_readers(const std::vector<Waiter>& waiters);
  Recent* find_recent(const Key& key);               // with mutex_ held
  void note_need(const format::ChunkRef& piece);     // with mutex_ held
  void note_wait(Coming& chunk);                     // with mutex_ held
  void keep(const Key& key, const ChunkData& data);  // with mutex_ held
  const format::Descriptor& descriptor_of(const format::Digest& digest) const;

  BlobStore& store_;
  const std::size_t memory_limit_;
  FetchStats unused_stats_;  // counts where nobody wants to know
  FetchStats& stats_;
  // Of a packed image; else null:
  Runtime* const runtime_ = nullptr;
  const format::Metadata* const metadata_ = nullptr;
  PackReader* const packs_ = nullptr;

  std::mutex mutex_;  // guards all below, except that which chunks there are is constant
  std::unordered_map<format::Digest, Stored> chunks_;  // empty for a packed image
  std::vector<bool> needed_;  // of a packed image, by ChunkIndex: a reader has asked for it
  // In the order in which readers first asked for them; one of the two is empty:
  std::vector<format::ChunkIndex> used_;           // of a packed image
  std::vector<const format::Digest*> used_blobs_;  // keys of chunks_
  std::list<Recent> recent_;                       // most recently used first
  std::unordered_map<Key, std::list<Recent>::iterator, KeyHash> by_key_;
  std::unordered_map<Key, Coming, KeyHash> coming_;
  std::optional<ReadAhead> read_ahead_;  // of a packed image
  std::size_t memory_used_ = 0;

  InFlight in_flight_;
};

}  // namespace puzzlefs::fetch
