// One read request of the kernel, from the pieces it covers to the reply.
#pragma once

#include <sys/uio.h>

#include <atomic>
#include <exception>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "fetch/chunk_store.h"
#include "fetch/in_flight.h"
#include "format/metadata.h"
#include "fs/fuse.h"
#include "fs/unasked_pages.h"
#include "fs/waiting_reads.h"

namespace puzzlefs::fs {

/// Holds no thread while chunks are on their way: whoever brings the last one replies. Owns itself.
class ReadOperation : public std::enable_shared_from_this<ReadOperation> {
 public:
  /// What reads have in common.
  struct Services {
    fetch::ChunkStore& chunks;
    WaitingReads& waiting_reads;
    UnaskedPages& unasked_pages;
  };

  /// Replies to `request` with the bytes of `pieces`, or the errno of the first that failed.
  /// `number` is for the log. What is left over of `watched` is offered to the unasked pages after
  /// that. The references and what `token` stands for are used until then.
  static void start(fuse_req_t request, format::InodeNumber number,
                    std::vector<format::ChunkRef> pieces, WatchedRead watched,
                    const Services& services, fetch::InFlight::Token token);

  ReadOperation(fuse_req_t request, format::InodeNumber number,
                std::vector<format::ChunkRef> pieces, WatchedRead watched, const Services& services,
                fetch::InFlight::Token token);

  /// Nobody wants the bytes any more: replies with EINTR, unless they are here. Thread-safe.
  void give_up();

 private:
  /// Adjacent pieces of the same chunk, which is asked for once.
  struct Run {
    std::size_t first = 0;  // pieces [first, last)
    std::size_t last = 0;
    std::size_t position = 0;  // in the reply
    std::size_t size = 0;
    fetch::ChunkData data;  // once it arrived, unless it was copied from
    Bytes copied;
  };

  void advance();
  void expect_interruption();
  void ask(Run& run);
  void take(Run& run, fetch::Outcome<fetch::ChunkData> outcome);
  void copy(const Run& run, const Bytes& chunk, std::byte* target) const;
  void fail(std::exception_ptr error);
  std::exception_ptr error();
  void finish();
  void offer_leftover();
  std::vector<iovec> reply_vectors() const;

  const fuse_req_t request_;
  const format::InodeNumber number_;
  const std::vector<format::ChunkRef> pieces_;
  const Services services_;
  const fetch::InFlight::Token token_;
  WatchedRead watched_;  // behind the token: its end uses what that keeps

  fetch::ChunkData leftover_chunk_;  // once it arrived
  std::vector<Run> runs_;            // each touched by the completion that it waits for
  // Touched by whoever advances:
  std::size_t next_run_ = 0;
  bool is_listed_ = false;  // among the waiting reads
  Bytes gathered_;          // runs write into disjoint parts; empty unless gathering
  std::atomic<std::size_t> waiting_ = 0;
  std::mutex mutex_;
  std::exception_ptr error_;  // guarded by mutex_
};

}  // namespace puzzlefs::fs
