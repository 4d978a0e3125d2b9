// Passthrough: the kernel reads an open file from another file by itself, at that file's speed and
// from its page cache (Linux ≥ 6.9, with CAP_SYS_ADMIN). libfuse knows of it from 3.17 on; with an
// older one the session's input and output is looked at where it has to be agreed on.
#pragma once

#include <sys/uio.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <utility>

#include "fetch/file_descriptor.h"

namespace puzzlefs::fs {

/// A file that the kernel knows by a number, for as long as this object lives. Files that were
/// opened with it stay usable. Must not outlive the session's device.
class BackingFile {
 public:
  BackingFile() = default;
  BackingFile(int device, std::int32_t id) : device_(device), id_(id) {}
  ~BackingFile();
  BackingFile(BackingFile&& other) noexcept
      : device_(other.device_), id_(std::exchange(other.id_, 0)) {}
  BackingFile& operator=(BackingFile&& other) noexcept;

  explicit operator bool() const { return id_ != 0; }
  /// For the reply to an open; 0 if there is none.
  std::int32_t id() const { return id_; }

 private:
  int device_ = -1;
  std::int32_t id_ = 0;
};

/// The body of a reply to OPEN that has the kernel read from `backing`.
struct PassthroughOpen {
  std::uint64_t handle = 0;
  std::uint32_t flags = 0;
  std::int32_t backing_id = 0;
};
PassthroughOpen open_passthrough(std::uint64_t handle, const BackingFile& backing);

/// What a session and its kernel have agreed on. The first exchange, INIT, is the only one that is
/// looked at; it must be over before several threads read or write.
class Passthrough {
 public:
  /// Whether to accept the kernel's offer. It lets one file system less be stacked on the mount.
  explicit Passthrough(bool wanted) : state_(wanted ? State::kAwaitingOffer : State::kOff) {}

  /// The session's input and output: read(2) and writev(2).
  ssize_t read(int device, void* buffer, std::size_t size);
  ssize_t writev(int device, const iovec* vectors, int count);

  /// Registers a file for reading, or nothing if that cannot be; why is logged, at debug level.
  /// Thread-safe.
  BackingFile open(const fetch::FileDescriptor& file);

 private:
  enum class State { kAwaitingOffer, kOffered, kOn, kOff };

  void look_for_offer(const void* request, std::size_t size);
  ssize_t accept(int device, const iovec* vectors, int count);
  void give_up(const char* reason);

  std::atomic<State> state_;
  int device_ = -1;            // constant once it is on
  std::uint64_t init_id_ = 0;  // of the INIT request
};

}  // namespace puzzlefs::fs
