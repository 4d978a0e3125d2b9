// Storing chunks in a layout: hashing, compressing and writing on threads of its own, while the
// caller cuts more.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <exception>
#include <mutex>
#include <optional>
#include <thread>
#include <unordered_map>
#include <vector>

#include "build/buffer_pool.h"
#include "fetch/layout.h"
#include "format/chunk_codec.h"
#include "format/digest.h"
#include "format/metadata_writer.h"

namespace puzzlefs::build {

/// A chunk of the stream as the layout has it.
struct StoredChunk {
  format::Digest digest;
  std::uint64_t stored_size = 0;
  std::uint64_t size = 0;  // in the stream
  bool compressed = false;
};

/// What became of a stream of chunks.
struct StoredChunks {
  std::vector<StoredChunk> chunks;           // in stream order
  std::vector<format::VerityRecord> verity;  // one a distinct chunk, ascending by digest
  std::uint64_t new_blobs = 0;               // that the layout did not have
  std::uint64_t new_bytes = 0;               // their stored size
};

/// add() and finish() are for one thread. Destroyed without finish(), it drops what is not stored.
/// How much waits is bounded by the pool that the slices come from.
class ChunkWriter {
 public:
  /// `layout` must outlive the writer.
  ChunkWriter(const fetch::Layout& layout, bool compress, unsigned threads);

  /// The next chunk of the stream. Throws what an earlier one met with.
  void add(Slice chunk);
  /// Waits until all chunks are stored. Throws what one of them met with.
  StoredChunks finish();

 private:
  struct Task {
    std::size_t index;  // in the stream
    Slice chunk;
  };

  void work(const std::stop_token& stop);
  std::optional<Task> next_task(const std::stop_token& stop);
  void store(const Task& task, std::optional<format::ChunkCompressor>& compressor);
  bool is_first(const format::Digest& digest);
  void fail(std::exception_ptr error);

  const fetch::Layout& layout_;
  const bool compress_;

  std::mutex mutex_;  // guards all up to the threads
  std::condition_variable_any changed_;
  std::deque<Task> tasks_;
  bool finishing_ = false;
  std::exception_ptr error_;  // the first; no task is stored after it
  StoredChunks stored_;
  std::unordered_map<format::Digest, format::Digest> verity_;

  std::vector<std::jthread> threads_;  // last: they use all above until they are joined
};

}  // namespace puzzlefs::build
