// Pages that nobody has asked for yet, on their way into the kernel's page cache: who reads a
// little of a chunk here and there would have it unpacked again and again.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <mutex>
#include <optional>
#include <vector>

#include "fetch/chunk_store.h"
#include "format/metadata.h"
#include "fs/open_file.h"

namespace puzzlefs::fs {

/// What a read leaves over of the one piece that it lies in.
struct Leftover {
  struct Range {
    std::uint64_t begin = 0;
    std::uint64_t end = 0;

    bool operator==(const Range&) const = default;
  };

  format::InodeNumber number{};
  PlacedPiece from;
  /// Of the file: whole pages of the piece, in which the file's last one counts as whole, none of
  /// them touched by the read. None is empty.
  std::vector<Range> ranges;
};

/// Nothing unless the read is small and in the midst of its piece. One that begins where the piece
/// does, goes on into the next one or reaches the end of the file probably belongs to a sequential
/// reader, for whom the kernel reads ahead.
std::optional<Leftover> leftover_of(const OpenFile& file, std::uint64_t offset, std::uint64_t size);

/// Thread-safe.
class UnaskedPages {
 public:
  /// So many leftovers wait at most. One is a hint, so what comes when they are full is dropped.
  static constexpr std::size_t kMaxWaiting = 16;

  /// Given an inode, where in its file, and the bytes.
  using Store = std::function<void(format::InodeNumber, std::uint64_t offset, ByteView bytes)>;

  /// Does not block. `chunk` is what the piece lies in, wholly.
  void offer(Leftover leftover, fetch::ChunkData chunk);
  /// Calls `store`, with nothing locked, for all that is offered until close(). On a thread of its
  /// own: the kernel may hold it up until reads are answered.
  void serve(const Store& store);
  /// Drops what waits. serve() returns when `store` has. To be called while reads are answered.
  void close();

 private:
  struct Waiting {
    Leftover leftover;
    fetch::ChunkData chunk;

    bool is_of(const Leftover& other) const {
      return leftover.number == other.number && leftover.from.offset == other.from.offset;
    }
  };

  std::mutex mutex_;  // guards all below
  std::condition_variable changed_;
  std::deque<Waiting> waiting_;  // the first of them is being stored while is_storing_
  bool is_storing_ = false;
  bool is_closed_ = false;
};

}  // namespace puzzlefs::fs
