// One ranged request for chunks of a pack.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <vector>

#include "fetch/blob_source.h"
#include "fetch/outcome.h"
#include "fetch/priority.h"
#include "fetch/runtime.h"
#include "format/bytes.h"
#include "format/metadata.h"
#include "format/oci.h"

namespace puzzlefs::fetch {

/// A chunk that was asked for.
struct WantedChunk {
  format::ChunkIndex index{};
  format::PackedChunk chunk;
  format::Descriptor pack;
  SharedPriority priority;
  Freshness freshness = Freshness::kAny;
  std::uint64_t order = 0;  // in which it was asked for
  Completion<Bytes> done;
};

/// The chunk out of what is stored of it. Throws CorruptError, naming it.
Bytes chunk_from(const format::PackedChunk& chunk, Bytes stored);

/// A stretch of a pack on its way, with the chunks that are wanted of it. Its bytes come to it one
/// after the other; each chunk is handed on when it is complete.
class PackRequest {
 public:
  /// `wanted`: not empty, ascending by offset, of one pack, none overlaps another.
  PackRequest(Runtime& runtime, format::Descriptor pack, std::vector<WantedChunk> wanted)
      : runtime_(runtime), pack_(std::move(pack)), wanted_(std::move(wanted)) {}

  const format::Descriptor& pack() const { return pack_; }
  Freshness freshness() const { return wanted_.front().freshness; }
  ByteRange range() const;
  /// Of the most urgent chunk that has not come yet. Thread-safe.
  Priority priority() const;
  /// Whether chunks of it were given up and nobody waits for the others: at most they were to be
  /// read ahead, along with those. Thread-safe.
  bool is_given_up() const;

  /// Bytes that come; those that belong to no wanted chunk, or have come before, are passed over.
  void receive(std::uint64_t offset, ByteView bytes);
  /// Answers those whose chunks have not come.
  void fail(const std::exception_ptr& error);
  bool is_complete() const { return next_ == wanted_.size(); }

  // For the owner, with its mutex held.
  std::shared_ptr<RangeRead> read;
  bool is_paused = false;
  bool is_cancelled = false;

 private:
  void deliver();

  Runtime& runtime_;
  const format::Descriptor pack_;
  std::vector<WantedChunk> wanted_;
  std::atomic<std::size_t> next_ = 0;  // of wanted_, that has not come
  Bytes stored_;                       // of it, so far
};

}  // namespace puzzlefs::fetch
