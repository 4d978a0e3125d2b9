// The read requests that wait for chunks.
#pragma once

#include <memory>
#include <mutex>
#include <unordered_map>

#include "fs/fuse.h"

namespace puzzlefs::fs {

class ReadOperation;

/// Tells a read whose program is told to stop that nobody waits for it. The kernel says so of those
/// reads alone that a program makes by itself: past the page cache (O_DIRECT), or of a page that
/// could not be read ahead. For its read-ahead nobody is interrupted. Thread-safe.
class WaitingReads {
 public:
  /// `request` may be interrupted from now on, until remove(); also within this call, so it must
  /// not be possible that it is replied to meanwhile.
  void add(fuse_req_t request, std::shared_ptr<ReadOperation> read);
  /// To be called before the reply.
  void remove(fuse_req_t request);

 private:
  void interrupt(fuse_req_t request);

  std::mutex mutex_;
  std::unordered_map<fuse_req_t, std::shared_ptr<ReadOperation>> reads_;  // guarded by mutex_
};

}  // namespace puzzlefs::fs
