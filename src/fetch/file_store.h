// The files of one image as whole files in the cache.
#pragma once

#include <atomic>
#include <cstdint>
#include <mutex>
#include <unordered_map>
#include <vector>

#include "fetch/cache.h"
#include "fetch/chunk_store.h"
#include "fetch/in_flight.h"
#include "fetch/large_files.h"
#include "fetch/runtime.h"
#include "fetch/verified_files.h"
#include "fetch/whole_files.h"
#include "format/digest.h"

namespace puzzlefs::fetch {

/// Small files are made when they are opened, large ones in the background when all of their chunks
/// are there. What cannot be made or kept is read piece by piece, as is what is cut into crumbs. An
/// open waits for a very large file of an earlier process to be hashed only if chunks of it have
/// gone.
class FileStore : public WholeFiles {
 public:
  /// About an average chunk: whoever reads the beginning of a file that is no larger gets nearly
  /// all of its chunks anyway.
  static constexpr std::uint64_t kMaxSmallSize = 64 << 10;
  /// What an open waits for to be hashed that is there: some milliseconds, which reading it piece
  /// by piece would take too.
  static constexpr std::uint64_t kMaxHashedSize = 8 << 20;

  /// All references must outlive this object.
  FileStore(Runtime& runtime, Cache& cache, ChunkStore& chunks);
  /// Gives up what goes on in the background. Waits for small files that are being opened, so see
  /// to it that no fetch takes long. Not for a worker.
  ~FileStore() override;

  void open(FilePieces pieces, Completion<FileDescriptor> done) override;
  void give_up(const FilePieces& pieces) override;
  void closed(FilePieces pieces) override;

 private:
  class SmallFile;
  class Verification;
  using Waiters = std::vector<Completion<FileDescriptor>>;
  /// A file that somebody waits for.
  struct Opening {
    Waiters waiters = {};
    std::size_t given_up = 0;   // how many of them want it no more
    ReaderId reader = nullptr;  // who reads its chunks
  };

  void open_large(FilePieces pieces, const Recipe& recipe, Completion<FileDescriptor> done);
  void open_small(FilePieces pieces, const Recipe& recipe, Completion<FileDescriptor> done);
  /// Whether this is the first who waits for that file, who has to see to it that all are answered.
  bool wait_for_answer(const Recipe& recipe, Completion<FileDescriptor> done,
                       ReaderId reader = nullptr);
  /// Answers all who wait for a small file.
  void answer(const Recipe& recipe, Outcome<FileDescriptor> outcome);

  Runtime& runtime_;
  Cache& cache_;
  ChunkStore& chunks_;
  VerifiedFiles verified_;
  std::atomic<bool> stop_ = false;
  InFlight in_flight_;
  LargeFiles large_;

  std::mutex mutex_;                                     // guards waiting_
  std::unordered_map<format::Digest, Opening> waiting_;  // by recipe
};

}  // namespace puzzlefs::fetch
