// libfuse may call about a request that is being replied to, so it is given this object and not the
// read: whoever takes the read from the list, under its lock, keeps it alive.
#include "fs/waiting_reads.h"

#include <utility>

#include "fs/interruption.h"
#include "fs/read_operation.h"

namespace puzzlefs::fs {

void WaitingReads::add(fuse_req_t request, std::shared_ptr<ReadOperation> read) {
  {
    const std::lock_guard lock(mutex_);
    reads_.emplace(request, std::move(read));
  }
  fuse_req_interrupt_func(
      request,
      [](fuse_req_t interrupted, void* self) {
        static_cast<WaitingReads*>(self)->interrupt(interrupted);
      },
      this);
}

void WaitingReads::remove(fuse_req_t request) {
  std::shared_ptr<ReadOperation> removed;  // whose end is not to come under the lock
  const std::lock_guard lock(mutex_);
  const auto found = reads_.find(request);
  removed = std::move(found->second);
  reads_.erase(found);
}

void WaitingReads::interrupt(fuse_req_t request) {
  // Here the request itself still exists, whoever has replied to it.
  if (!is_told_to_stop(fuse_req_ctx(request)->pid)) return;
  std::shared_ptr<ReadOperation> read;
  {
    const std::lock_guard lock(mutex_);
    const auto found = reads_.find(request);
    if (found == reads_.end()) return;
    read = found->second;
  }
  read->give_up();
}

}  // namespace puzzlefs::fs
