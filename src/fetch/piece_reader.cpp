// Chunks are got in batches: when a batch is there a worker takes it, and starts the next one.
#include "fetch/piece_reader.h"

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <utility>
#include <vector>

#include "format/error.h"

namespace puzzlefs::fetch {
namespace {

// Enough to keep all workers busy. A chunk has 1 MiB at most, and 64 KiB mostly.
constexpr std::size_t kBatch = 8;

class Reading : public std::enable_shared_from_this<Reading> {
 public:
  Reading(Runtime& runtime, ChunkStore& chunks, const FilePieces& pieces, Purpose purpose,
          TakePiece take, Completion<Done> done, ReaderId reader)
      : runtime_(runtime),
        chunks_(chunks),
        pieces_(pieces),
        purpose_(purpose),
        take_(std::move(take)),
        done_(std::move(done)),
        reader_(reader) {}

  void start_batch() {
    const auto first = next_;
    const auto count = std::min(kBatch, pieces_.size() - first);
    batch_.assign(count, Outcome<ChunkData>(ChunkData()));
    missing_ = count;
    if (count == 0) return done_(Done());
    for (std::size_t i = 0; i < count; ++i) {
      auto take = [self = shared_from_this(), i](Outcome<ChunkData> outcome) {
        self->batch_[i] = std::move(outcome);
        // Not here, where other readers of the chunk may be kept waiting.
        if (--self->missing_ == 0) self->runtime_.post([self] { self->take_batch(); });
      };
      chunks_.read(pieces_[first + i], std::move(take), purpose_, reader_);
    }
  }

 private:
  void take_batch() {
    try {
      for (auto& outcome : batch_) take_(pieces_[next_++], outcome.value());
    } catch (const std::exception&) {
      return done_(std::current_exception());
    }
    start_batch();
  }

  Runtime& runtime_;
  ChunkStore& chunks_;
  const FilePieces& pieces_;
  const Purpose purpose_;
  const TakePiece take_;
  const Completion<Done> done_;
  const ReaderId reader_;
  // Used by one thread at a time: first by the one that starts a batch, each element then by the
  // one that gets it, and all by the one that takes the batch when the last has come.
  std::vector<Outcome<ChunkData>> batch_;
  std::size_t next_ = 0;
  std::atomic<std::size_t> missing_ = 0;
};

}  // namespace

void read_pieces(Runtime& runtime, ChunkStore& chunks, const FilePieces& pieces, Purpose purpose,
                 TakePiece take, Completion<Done> done, ReaderId reader) {
  std::make_shared<Reading>(runtime, chunks, pieces, purpose, std::move(take), std::move(done),
                            reader)
      ->start_batch();
}

}  // namespace puzzlefs::fetch
