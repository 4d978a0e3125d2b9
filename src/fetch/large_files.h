// Large files, put together and verified in the background.
#pragma once

#include <atomic>
#include <cstddef>
#include <deque>
#include <memory>
#include <mutex>
#include <unordered_set>

#include "fetch/cache.h"
#include "fetch/cached_recipes.h"
#include "fetch/chunk_store.h"
#include "fetch/in_flight.h"
#include "fetch/runtime.h"
#include "fetch/verified_files.h"
#include "fetch/whole_files.h"
#include "format/digest.h"

namespace puzzlefs::fetch {

/// A queue of jobs for files that are too large to wait for. One of them is under way at a time, in
/// short steps on workers. Thread-safe.
class LargeFiles {
 public:
  /// All references must outlive this object.
  LargeFiles(Runtime& runtime, Cache& cache, ChunkStore& chunks, VerifiedFiles& verified)
      : runtime_(runtime), cache_(cache), chunks_(chunks), verified_(verified) {}
  /// Gives up what is under way, and waits for the step that it is in. Not for a worker.
  ~LargeFiles();
  LargeFiles(const LargeFiles&) = delete;
  LargeFiles& operator=(const LargeFiles&) = delete;

  /// Verifies the file that the cache has for a recipe.
  void verify(FilePieces pieces, const Recipe& recipe);
  /// The same if it has one, or else makes it if all chunks are in the cache, it is worth its room,
  /// and there is room.
  void make(FilePieces pieces, const Recipe& recipe);

 private:
  class Job;

  /// Forgets the job if there is one for that file, or if there are too many.
  void enqueue(FilePieces pieces, const Recipe& recipe, bool may_make);
  void finish(const Job& job);

  Runtime& runtime_;
  Cache& cache_;
  ChunkStore& chunks_;
  VerifiedFiles& verified_;
  std::atomic<bool> stop_ = false;
  InFlight in_flight_;

  std::mutex mutex_;  // guards all below
  bool is_busy_ = false;
  std::deque<std::shared_ptr<Job>> queue_;
  std::size_t queued_pieces_ = 0;
  std::unordered_set<format::Digest> keys_;  // of the recipes queued or under way
};

}  // namespace puzzlefs::fetch
