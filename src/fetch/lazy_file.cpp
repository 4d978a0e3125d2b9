// The memory is reserved first, and must not be accessed. A part of it is read and hashed elsewhere
// and then moved to where it belongs, so that no other thread sees it before. One that is given
// back is reserved again in one step: who reads it meanwhile sees it, or touches it anew. Parts are
// so large that one costs little beside its hash, and so many at most that the kernel bears as many
// mappings. The leaves that verify a part are read with it; where these are not right they are made
// anew from the file, so that a damaged tree costs time and nothing else.
#include "fetch/lazy_file.h"

#include <spdlog/fmt/fmt.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <utility>

#include "fetch/cache.h"
#include "format/error.h"
#include "format/verity.h"

namespace puzzlefs::fetch {
namespace {

constexpr std::size_t kLeastPart = 8 << 10;
// The kernel has 65,530 for a process (vm.max_map_count), and each part may divide one in three.
constexpr std::size_t kMostParts = 16384;
constexpr auto kBlock = format::kVerityBlockSize;
static_assert(kMaxBlobSize / kMostParts <= VerityTree::kLeaves * kBlock,
              "a part is verified by one hash block");

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

LazyFile::LazyFile(FileDescriptor file, std::uint64_t size, VerityTree tree)
    : part_size_(part_size_for(size)), file_(std::move(file)), tree_(std::move(tree)) {
  if (size == 0 || tree_.hash_block_count() != VerityTree::hash_block_count(size)) {
    throw CorruptError(fmt::format("A file of {} bytes cannot have {} hash blocks.", size,
                                   tree_.hash_block_count()));
  }
  here_.resize((size + part_size_ - 1) / part_size_);
  kept_.reserve(kMostInMemory / part_size_);  // fill() must not allocate
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
  if (!read(part)) return show_zeros(part);
  keep(part);
  return true;
}

void LazyFile::keep(std::size_t part) {
  here_[part] = true;
  if (kept_.size() < kept_.capacity()) return kept_.push_back(part);
  give_back(std::exchange(kept_[oldest_], part));
  oldest_ = (oldest_ + 1) % kept_.size();
}

void LazyFile::give_back(std::size_t part) {
  // If this fails it stays, and nobody asks for it again. Not by mmap(), which the thread sanitizer
  // takes for a write.
  ::syscall(SYS_mmap, start_of(part), part_size_, PROT_NONE,
            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
  here_[part] = false;
}

bool LazyFile::read(std::size_t part) {
  Scratch scratch(part_size_);
  return scratch.get() != nullptr && read_at(part * part_size_, {scratch.get(), part_size_}) &&
         is_right(part, scratch.get()) && scratch.move_to(start_of(part));
}

bool LazyFile::show_zeros(std::size_t part) {
  guard_.set_damaged();  // first: whoever reads zeros must find this set
  return ::mmap(start_of(part), part_size_, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1,
                0) != MAP_FAILED;
}

/// What lies beyond the end of the file stays as it is.
bool LazyFile::read_at(std::uint64_t offset, std::span<std::byte> bytes) {
  const auto size = std::min<std::uint64_t>(bytes.size(), bytes_.size() - offset);
  return try_read_at(file_, offset, bytes.first(size));
}

bool LazyFile::is_right(std::size_t part, const std::byte* buffer) {
  const auto first = part * part_size_ / kBlock;
  const auto end = std::min(first + part_size_ / kBlock, format::verity_block_count(bytes_.size()));
  if (!find_leaves(first / VerityTree::kLeaves)) return false;
  const auto bytes_of = [&](std::size_t block) {
    return ByteView(buffer + (block - first) * kBlock, kBlock);
  };
  const auto leaf_of = [&](std::size_t block) { return leaves_[block % VerityTree::kLeaves]; };
  auto block = first;
  for (; block + 1 < end; block += 2) {
    const auto hashes = format::sha256_of_both(bytes_of(block), bytes_of(block + 1));
    if (hashes[0] != leaf_of(block) || hashes[1] != leaf_of(block + 1)) return false;
  }
  return block == end || format::sha256(bytes_of(block)) == leaf_of(block);
}

/// They are in leaves_ then.
bool LazyFile::find_leaves(std::size_t hash_block) {
  if (hash_block_ == hash_block) return true;
  hash_block_.reset();
  const bool found = tree_.read(hash_block, leaves_) ||
                     (hash_leaves(hash_block) && tree_.mend(hash_block, leaves_));
  if (found) hash_block_ = hash_block;
  return found;
}

bool LazyFile::hash_leaves(std::size_t hash_block) {
  leaves_ = {};
  const auto first = hash_block * VerityTree::kLeaves;
  const auto end = std::min(first + VerityTree::kLeaves, format::verity_block_count(bytes_.size()));
  for (auto block = first; block < end; ++block) {
    std::array<std::byte, kBlock> bytes{};
    if (!read_at(block * kBlock, bytes)) return false;
    leaves_[block - first] = format::sha256(bytes);
  }
  return true;
}

std::unique_ptr<LazyFile> LazyFile::again() const {
  const std::lock_guard lock(mutex_);
  return std::make_unique<LazyFile>(duplicate(file_), bytes_.size(), tree_.again());
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
