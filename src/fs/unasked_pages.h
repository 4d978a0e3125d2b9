// Pages that nobody has asked for yet, on their way into the kernel's page cache: who reads a
// little of a chunk here and there would have it unpacked again and again.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "fetch/chunk_store.h"
#include "format/metadata.h"
#include "fs/open_file.h"

namespace puzzlefs::fs {

/// A part of a file.
struct FileRange {
  std::uint64_t begin = 0;
  std::uint64_t end = 0;

  bool operator==(const FileRange&) const = default;
};

/// What a read leaves over of the one piece that it lies in.
struct Leftover {
  format::InodeNumber number{};
  PlacedPiece from;
  /// Of the file: whole pages of the piece, none of them touched by the read. None is empty.
  std::vector<FileRange> ranges;
};

/// The kernel begins to read ahead with 16 KiB, for a reader of single pages, and goes on with
/// more: larger reads are hardly at random.
inline constexpr std::uint64_t kSmallRead = 16 << 10;

/// Nothing unless the read is small and in the midst of its piece. One that begins where the piece
/// does, goes on into the next one or reaches the end of the file probably belongs to a sequential
/// reader, for whom the kernel reads ahead.
std::optional<Leftover> leftover_of(const OpenFile& file, std::uint64_t offset, std::uint64_t size);

class UnaskedPages;

/// A read that is not answered yet, as long as it lives.
class Reading {
 public:
  Reading(UnaskedPages& pages, format::InodeNumber number, FileRange range);
  ~Reading();
  Reading(const Reading&) = delete;
  Reading& operator=(const Reading&) = delete;

  bool covers_some_of(format::InodeNumber number, const FileRange& range) const {
    return number == number_ && range_.begin < range.end && range.begin < range_.end;
  }

 private:
  UnaskedPages& pages_;
  const format::InodeNumber number_;
  const FileRange range_;
  std::list<const Reading*>::iterator place_;  // among all
};

/// What is to be known of a read beside its bytes; nothing if nobody serves.
struct WatchedRead {
  std::unique_ptr<Reading> reading = nullptr;
  std::optional<Leftover> leftover = {};
};

/// Thread-safe.
class UnaskedPages {
 public:
  /// So many leftovers wait at most. One is a hint, so what comes when they are full is dropped.
  static constexpr std::size_t kMaxWaiting = 16;

  struct Kernel {
    /// Whether it asks for something that nobody has taken yet.
    std::function<bool()> has_request;
    /// Given an inode, where in its file, and the bytes.
    std::function<void(format::InodeNumber, std::uint64_t offset, ByteView bytes)> store;
  };

  /// A read that begins, and is to end before this object does.
  WatchedRead watch(const OpenFile& file, std::uint64_t offset, std::uint64_t size,
                    bool leaves_over);
  /// Does not block. `chunk` is what the piece lies in, wholly.
  void offer(Leftover leftover, fetch::ChunkData chunk) noexcept;
  /// Stores, with nothing locked, what is offered until close() and does not seem to be being read.
  /// On a thread of its own: the kernel may hold it up until reads are answered.
  void serve(const Kernel& kernel);
  /// Drops what waits. serve() returns when the kernel has what it is given. To be called while
  /// reads are answered.
  void close();

 private:
  friend class Reading;

  struct Waiting {
    Leftover leftover;
    fetch::ChunkData chunk;

    bool is_of(const Leftover& other) const {
      return leftover.number == other.number && leftover.from.offset == other.from.offset;
    }
  };

  void store(const Waiting& waiting, const Kernel& kernel);
  bool may_store(format::InodeNumber number, const FileRange& range, const Kernel& kernel);
  bool is_being_read(format::InodeNumber number, const FileRange& range);
  bool is_closed_after(std::chrono::microseconds pause);

  std::mutex mutex_;  // guards all below
  std::condition_variable changed_;
  std::deque<Waiting> waiting_;  // the first of them is being stored while is_storing_
  bool is_storing_ = false;
  std::list<const Reading*> readings_;
  bool is_closed_ = false;
};

}  // namespace puzzlefs::fs
