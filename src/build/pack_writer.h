// Storing chunks in packs (doc/format.md, "Version 4"): hashing and compressing on threads of its
// own, while the caller cuts more, and appending in the order of the stream, so that the packs are
// the same whatever the number of threads.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <exception>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <thread>
#include <unordered_map>
#include <vector>

#include "build/blob_file.h"
#include "build/buffer_pool.h"
#include "build/pack_plan.h"
#include "fetch/layout.h"
#include "format/digest.h"
#include "format/metadata.h"
#include "format/metadata_writer.h"
#include "format/zstd_frame.h"

namespace puzzlefs::build {

struct PackOptions {
  /// Of zstd; 0 stores chunks as they are.
  int level = format::FrameCompressor::kDefaultLevel;
  /// The same for chunks up to end_hot(); `level` if there is none.
  std::optional<int> hot_level;
  unsigned threads = 1;
  /// At how many stored bytes the first packs are full, and how many packs an image may have; for
  /// tests to change.
  std::uint64_t pack_size = kPackSize;
  std::uint32_t max_packs = kMaxPacks;
};

/// A packed image whose packs the new one shares as far as they are worth it.
struct PackBase {
  const format::Metadata& metadata;
  /// The bytes of a chunk of its as they are stored, for a pack that is not worth keeping. Called
  /// by finish(), on its thread.
  std::function<Bytes(const format::PackedChunk&)> read_stored;
};

/// What became of a stream of chunks.
struct PackedStream {
  /// In stream order; places in contents.chunks, which has each distinct chunk once.
  std::vector<format::ChunkIndex> chunks;
  format::PackedContents contents;
  /// Where each chunk of the base is in contents.chunks; kNoChunkIndex if the image has it not.
  std::vector<format::ChunkIndex> base_chunks;
  std::uint64_t new_packs = 0;       // that the layout did not have
  std::uint64_t new_bytes = 0;       // their size
  std::uint32_t kept_packs = 0;      // of the base: the first of contents.packs
  std::uint64_t moved_bytes = 0;     // stored anew, from packs of the base that were not kept
  std::uint32_t replaced_packs = 0;  // of the base, which these were in
};

/// The packs lie in the layout when finish() returns, and are not flushed to disk. add(), keep(),
/// end_hot() and finish() are for one thread. Destroyed without finish(), it leaves no more than
/// whole packs that nothing names. How much waits is bounded by the pool that the slices come from,
/// and is less than twice that with the compressed forms.
class PackWriter {
 public:
  /// `layout` and what `base` refers to must outlive the writer; no base if it is empty.
  PackWriter(const fetch::Layout& layout, const PackOptions& options,
             std::optional<PackBase> base = {});

  /// The next chunk of the stream, at most format::kMaxChunkSize and not empty. One that the stream
  /// or the base has already is not stored again. Throws what an earlier one met with.
  void add(Slice chunk);
  /// A chunk of the base that the image needs though it is not in the stream.
  void keep(format::ChunkIndex base_chunk) { kept_chunks_.push_back(base_chunk); }
  /// All chunks so far are what a start needs, in that order: their packs end here and are marked
  /// as hot. Of chunks that are in packs of the base nothing changes. To be called once at most.
  void end_hot();
  /// Waits until all chunks are stored. Throws what one of them met with.
  PackedStream finish();

 private:
  struct Task {
    std::size_t index;  // in the stream
    Slice chunk;
    bool is_hot;
  };
  class Compressors;
  // A chunk whose turn to be appended may not have come yet.
  struct Ready {
    Slice chunk;
    format::Digest digest;
    std::optional<Bytes> frame;  // if it is to be stored compressed
  };

  void take_base();
  void work(const std::stop_token& stop);
  std::vector<Task> next_tasks(const std::stop_token& stop);
  void prepare(std::vector<Task> tasks, Compressors& compressors);
  Ready prepare(Task task, const format::Digest& digest, Compressors& compressors);
  bool is_known(const format::Digest& digest);
  void append_in_order(std::size_t index, Ready ready);
  void append(const Ready& ready);
  format::PackedChunk store(const format::Digest& digest, std::size_t size, ByteView stored);
  void finish_pack();
  void finish_hot();
  void fail(std::exception_ptr error);

  std::vector<bool> choose_base_packs() const;
  void replace(const std::vector<bool>& kept, PackedStream& result);
  Bytes read_base_chunk(const format::PackedChunk& chunk);
  void list_packs(const std::vector<bool>& kept, PackedStream& result);
  void list_chunks(const std::vector<bool>& kept, PackedStream& result);

  const fetch::Layout& layout_;
  const PackOptions options_;
  const std::optional<PackBase> base_;
  const std::uint32_t base_packs_;               // how many the base has
  std::vector<format::ChunkIndex> kept_chunks_;  // of the thread that adds

  std::mutex mutex_;  // guards all up to the next paragraph
  std::condition_variable_any changed_;
  std::deque<Task> tasks_;
  std::map<std::size_t, Ready> ready_;  // by index in the stream
  bool finishing_ = false;
  bool appending_ = false;    // a thread does so, and owns the next paragraph
  std::exception_ptr error_;  // the first; nothing is stored after it
  std::size_t added_ = 0;
  bool is_hot_ = false;                 // what is added
  std::optional<std::size_t> hot_end_;  // the number of hot chunks, until their packs are marked
  // The places in distinct_. Written only by the thread that appends, which may look without
  // mutex_.
  std::unordered_map<format::Digest, std::size_t> known_;

  // Of the thread that has set appending_, and of finish() when there are no threads any more.
  std::vector<std::size_t> stream_;            // places in distinct_
  std::vector<format::PackedChunk> distinct_;  // the base's first; new packs count from base_packs_
  std::vector<bool> is_live_;                  // of distinct_: the stream has it
  std::optional<BlobFile> open_pack_;
  std::vector<WrittenBlob> packs_;
  std::size_t hot_packs_ = 0;  // the first of packs_ that hold nothing but hot chunks

  std::vector<std::jthread> threads_;  // last: they use all above until they are joined
};

}  // namespace puzzlefs::build
