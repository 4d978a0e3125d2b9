// The memory is reserved first, and must not be accessed. A part of it is read and hashed elsewhere
// and then moved to where it belongs, so that no other thread sees it before. Parts are so large
// that one costs little beside its hash, and so many at most that the kernel bears as many
// mappings.
#include "fetch/lazy_file.h"

#include <spdlog/fmt/fmt.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <utility>

#include "format/error.h"
#include "format/verity.h"

namespace puzzlefs::fetch {
namespace {

constexpr std::size_t kLeastPart = 64 << 10;
// The kernel has 65,530 for a process (vm.max_map_count), and each part may divide one in three.
constexpr std::size_t kMostParts = 8192;

std::size_t part_size_for(std::uint64_t size) {
  return std::max(kLeastPart, std::bit_ceil(static_cast<std::size_t>(size) / kMostParts));
}

/// Anonymous memory, unmapped unless it was released.
class Scratch {
 public:
  explicit Scratch(std::size_t size)
      : size_(size),
        start_(::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)) {}
  ~Scratch() {
    if (start_ != MAP_FAILED) ::munmap(start_, size_);
  }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;

  std::byte* get() const {
    return start_ == MAP_FAILED ? nullptr : static_cast<std::byte*>(start_);
  }
  /// Its pages go there, in place of what was there, for reading only.
  bool move_to(std::byte* place) {
    if (::mprotect(start_, size_, PROT_READ) != 0) return false;
    if (::mremap(start_, size_, size_, MREMAP_MAYMOVE | MREMAP_FIXED, place) == MAP_FAILED) {
      return false;
    }
    start_ = MAP_FAILED;
    return true;
  }

 private:
  std::size_t size_;
  void* start_;
};

}  // namespace

LazyFile::LazyFile(FileDescriptor file, std::uint64_t size, std::vector<format::Digest> blocks)
    : part_size_(part_size_for(size)), blocks_(std::move(blocks)), file_(std::move(file)) {
  if (size == 0 || blocks_.size() != format::verity_block_count(size)) {
    throw CorruptError(
        fmt::format("A file of {} bytes cannot have {} blocks.", size, blocks_.size()));
  }
  here_.resize((size + part_size_ - 1) / part_size_);
  void* const start = ::mmap(nullptr, here_.size() * part_size_, PROT_NONE,
                             MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (start == MAP_FAILED) throw_errno(fmt::format("reserve {} bytes of address space", size));
  bytes_ = {static_cast<const std::byte*>(start), static_cast<std::size_t>(size)};
  try {
    guard_ = FaultGuard(bytes_, this);
  } catch (...) {
    ::munmap(start, here_.size() * part_size_);
    throw;
  }
}

LazyFile::~LazyFile() {
  guard_ = FaultGuard();  // before the addresses can be those of something else
  ::munmap(start_of(0), here_.size() * part_size_);
}

std::byte* LazyFile::start_of(std::size_t part) const {
  return const_cast<std::byte*>(bytes_.data()) + part * part_size_;
}

bool LazyFile::fill(std::byte* address) noexcept {
  const auto part = static_cast<std::size_t>(address - bytes_.data()) / part_size_;
  const std::lock_guard lock(mutex_);
  if (here_[part]) return true;  // another thread was faster
  here_[part] = read(part);
  return here_[part] || show_zeros(part);
}

bool LazyFile::read(std::size_t part) {
  Scratch scratch(part_size_);
  return scratch.get() != nullptr && read_part(part, scratch.get()) &&
         is_right(part, scratch.get()) && scratch.move_to(start_of(part));
}

bool LazyFile::show_zeros(std::size_t part) {
  guard_.set_damaged();  // first: whoever reads zeros must find this set
  return ::mmap(start_of(part), part_size_, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1,
                0) != MAP_FAILED;
}

/// What lies beyond the end of the file stays zero, as it is hashed.
bool LazyFile::read_part(std::size_t part, std::byte* buffer) {
  const auto begin = part * part_size_;
  const auto size = std::min(part_size_, bytes_.size() - begin);
  std::size_t done = 0;
  while (done < size) {
    const auto count =
        ::pread(file_.get(), buffer + done, size - done, static_cast<off_t>(begin + done));
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return false;
    done += static_cast<std::size_t>(count);
  }
  return true;
}

bool LazyFile::is_right(std::size_t part, const std::byte* buffer) {
  const auto blocks_per_part = part_size_ / format::kVerityBlockSize;
  const auto first = part * blocks_per_part;
  const auto end = std::min(first + blocks_per_part, blocks_.size());
  for (auto block = first; block < end; ++block) {
    hash_.update({buffer + (block - first) * format::kVerityBlockSize, format::kVerityBlockSize});
    if (hash_.finish() != blocks_[block]) return false;
  }
  return true;
}

void LazyFile::replace(FileDescriptor file) {
  const std::lock_guard lock(mutex_);
  file_ = std::move(file);
  for (std::size_t part = 0; part < here_.size(); ++part) {
    if (here_[part]) continue;
    if (::mprotect(start_of(part), part_size_, PROT_NONE) != 0) return;  // zeros are still seen
  }
  guard_.set_repaired();
}

}  // namespace puzzlefs::fetch
