// Large buffers that go round between the reader of a stream and those who work on its chunks.
#pragma once

#include <condition_variable>
#include <memory>
#include <mutex>
#include <vector>

#include "format/bytes.h"

namespace puzzlefs::build {

/// A fixed number of buffers, made when first wanted: the bound on a build's memory. Thread-safe;
/// must outlive the buffers it has lent.
class BufferPool {
 public:
  BufferPool(std::size_t count, std::size_t buffer_size);

  /// A buffer of unspecified contents, which returns to the pool with its last owner. Waits for one
  /// when all are out.
  std::shared_ptr<Bytes> take();

 private:
  void give_back(std::unique_ptr<Bytes> buffer);

  const std::size_t buffer_size_;
  std::mutex mutex_;  // guards all below
  std::condition_variable returned_;
  std::size_t not_made_yet_;
  std::vector<std::unique_ptr<Bytes>> idle_;
};

/// Part of a buffer, and a share in the ownership of it.
struct Slice {
  std::shared_ptr<const Bytes> buffer;
  ByteView bytes;
};

}  // namespace puzzlefs::build
