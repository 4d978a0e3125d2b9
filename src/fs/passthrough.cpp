// The kernel's side of the protocol is <linux/fuse.h>; what Debian 12's is too old for (7.38) is
// defined here as in that of Linux 6.9 (7.40).
#include "fs/passthrough.h"

#include <linux/fuse.h>
#include <spdlog/spdlog.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstddef>
#include <cstring>

namespace puzzlefs::fs {
namespace {

/// FUSE_PASSTHROUGH, bit 37 of the flags of INIT: bit 5 of its second word.
constexpr std::uint32_t kPassthroughFlag2 = 1U << 5;
/// FOPEN_PASSTHROUGH.
constexpr std::uint32_t kOpenPassthrough = 1U << 7;
/// The oldest protocol with passthrough, 7.40.
constexpr std::uint32_t kPassthroughMinor = 40;
/// How deep file systems are stacked with this one, the backing files' being 0. Overlayfs on top
/// makes 2, the most that the kernel allows.
constexpr std::uint32_t kStackDepth = 1;

/// struct fuse_backing_map.
struct BackingMap {
  std::int32_t fd = -1;
  std::uint32_t flags = 0;
  std::uint64_t padding = 0;
};
/// FUSE_DEV_IOC_BACKING_OPEN and _CLOSE.
constexpr auto kBackingOpen = _IOW(FUSE_DEV_IOC_MAGIC, 1, BackingMap);
constexpr auto kBackingClose = _IOW(FUSE_DEV_IOC_MAGIC, 2, std::uint32_t);

constexpr auto* kNoOffer = "the kernel does not offer it";

// fuse_open_out, whose last word got its meaning in 7.40.
static_assert(sizeof(PassthroughOpen) == sizeof(fuse_open_out));
static_assert(offsetof(PassthroughOpen, backing_id) == offsetof(fuse_open_out, padding));

template <class T>
T take(const void* data) {
  T value;
  std::memcpy(&value, data, sizeof value);
  return value;
}

}  // namespace

BackingFile::~BackingFile() {
  if (id_ == 0) return;
  const auto id = static_cast<std::uint32_t>(id_);
  ::ioctl(device_, kBackingClose, &id);
}

BackingFile& BackingFile::operator=(BackingFile&& other) noexcept {
  std::swap(device_, other.device_);
  std::swap(id_, other.id_);
  return *this;
}

PassthroughOpen open_passthrough(std::uint64_t handle, const BackingFile& backing) {
  // The kernel takes no flag of cached files beside it.
  return {handle, kOpenPassthrough | FOPEN_NOFLUSH, backing.id()};
}

ssize_t Passthrough::read(int device, void* buffer, std::size_t size) {
  const auto count = ::read(device, buffer, size);
  if (count > 0 && state_.load(std::memory_order_relaxed) == State::kAwaitingOffer) {
    look_for_offer(buffer, static_cast<std::size_t>(count));
  }
  return count;
}

ssize_t Passthrough::writev(int device, const iovec* vectors, int count) {
  if (state_.load(std::memory_order_relaxed) == State::kOffered) {
    return accept(device, vectors, count);
  }
  return ::writev(device, vectors, count);
}

void Passthrough::look_for_offer(const void* request, std::size_t size) {
  const auto* const bytes = static_cast<const std::byte*>(request);
  // An older kernel's INIT is shorter.
  if (size < sizeof(fuse_in_header) + sizeof(fuse_init_in)) return give_up(kNoOffer);
  const auto header = take<fuse_in_header>(bytes);
  const auto init = take<fuse_init_in>(bytes + sizeof header);
  const bool can_offer = header.opcode == FUSE_INIT && init.major == FUSE_KERNEL_VERSION &&
                         init.minor >= kPassthroughMinor && (init.flags & FUSE_INIT_EXT) != 0;
  if (!can_offer || (init.flags2 & kPassthroughFlag2) == 0) return give_up(kNoOffer);
  init_id_ = header.unique;
  state_ = State::kOffered;
}

ssize_t Passthrough::accept(int device, const iovec* vectors, int count) {
  // libfuse writes a header and the body. With anything else, an error say, it is not for us.
  const bool has_body = count == 2 && vectors[0].iov_len == sizeof(fuse_out_header) &&
                        vectors[1].iov_len == sizeof(fuse_init_out);
  const auto header = has_body ? take<fuse_out_header>(vectors[0].iov_base) : fuse_out_header{};
  if (!has_body || header.unique != init_id_ || header.error != 0) {
    give_up("the answer to INIT is not what it was expected to be");
    return ::writev(device, vectors, count);
  }
  auto init = take<fuse_init_out>(vectors[1].iov_base);
  init.flags |= FUSE_INIT_EXT;
  init.flags2 |= kPassthroughFlag2;
  init.unused[0] = kStackDepth;  // max_stack_depth since 7.40
  const std::array<iovec, 2> changed{vectors[0], iovec{&init, sizeof init}};
  device_ = device;
  state_ = State::kOn;
  return ::writev(device, changed.data(), static_cast<int>(changed.size()));
}

BackingFile Passthrough::open(const fetch::FileDescriptor& file) {
  if (state_ != State::kOn) return {};
  BackingMap map;
  map.fd = file.get();
  const int id = ::ioctl(device_, kBackingOpen, &map);
  if (id > 0) return {device_, id};
  switch (errno) {
    case EPERM:
      give_up("that takes CAP_SYS_ADMIN outside of user namespaces");
      break;
    case ELOOP:
      give_up("they lie on a file system that is stacked on another");
      break;
    default:
      spdlog::debug("The kernel does not read a whole file by itself: {}.", std::strerror(errno));
  }
  return {};
}

void Passthrough::give_up(const char* reason) {
  if (state_.exchange(State::kOff) == State::kOff) return;  // another thread has said so
  spdlog::debug("The kernel does not read whole files by itself (passthrough): {}.", reason);
}

}  // namespace puzzlefs::fs
