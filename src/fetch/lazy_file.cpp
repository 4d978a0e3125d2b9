// The addresses are reserved first, and must not be accessed. A part is read and verified
// elsewhere, written to a file in memory and mapped from there, so that no other thread sees it
// before. When that file is full all addresses are reserved again in one step, which takes little
// more time than for one part would: who reads a part meanwhile sees it, or touches it anew. Parts
// are so large that one costs little beside its hash, and so many at most that the kernel bears as
// many mappings. The leaves that verify a part are read with it; where these are not right they are
// made anew from the file, so that a damaged tree costs time and nothing else.
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
// Any may show zeros. The kernel has 65,530 mappings for a process (vm.max_map_count), and each
// part may divide one in three.
constexpr std::size_t kMostParts = 16384;
constexpr auto kBlock = format::kVerityBlockSize;
constexpr std::size_t kMostLeaves = 256;  // blocks of them, 1 MiB, for 128 MiB of the file
static_assert(kMaxBlobSize / kMostParts <= VerityTree::kLeaves * kBlock,
              "a part is verified by one hash block");

std::size_t part_size_for(std::uint64_t size) {
  const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  return std::max({kLeastPart, page, std::bit_ceil(static_cast<std::size_t>(size) / kMostParts)});
}

/// In place of what was there. Not by mmap(), which the thread sanitizer takes for a write: another
/// thread may be reading.
bool map(std::byte* start, std::size_t size, int protection, int flags, int file = -1,
         std::size_t offset = 0) {
  return ::syscall(SYS_mmap, start, size, protection, flags | MAP_FIXED, file, offset) != -1;
}

}  // namespace

LazyFile::LazyFile(FileDescriptor file, std::uint64_t size, VerityTree tree)
    : part_size_(part_size_for(size)),
      file_(std::move(file)),
      read_(part_size_),
      memory_(make_memory_file()),
      here_((size + part_size_ - 1) / part_size_),
      tree_(std::move(tree)) {
  if (size == 0 || tree_.hash_block_count() != VerityTree::hash_block_count(size)) {
    throw CorruptError(fmt::format("A file of {} bytes cannot have {} hash blocks.", size,
                                   tree_.hash_block_count()));
  }
  // fill() must not allocate.
  hash_blocks_.reserve(kMostLeaves);
  leaves_.reserve(kMostLeaves);
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
  return (read(part) && keep(part)) || show_zeros(part);
}

bool LazyFile::read(std::size_t part) {
  const auto offset = part * part_size_;
  const auto size = std::min<std::size_t>(part_size_, bytes_.size() - offset);
  std::fill(read_.begin() + static_cast<std::ptrdiff_t>(size), read_.end(), std::byte{});
  return try_read_at(file_, offset, std::span(read_).first(size)) && is_right(part);
}

bool LazyFile::keep(std::size_t part) {
  if ((kept_ + 1) * part_size_ > kMostInMemory && !give_all_back()) return false;
  const auto offset = kept_ * part_size_;
  if (!try_write_at(memory_, offset, read_)) return false;
  if (!map(start_of(part), part_size_, PROT_READ, MAP_SHARED | MAP_POPULATE, memory_.get(), offset))
    return false;
  here_[part] = true;
  ++kept_;
  return true;
}

bool LazyFile::give_all_back() {
  if (!map(start_of(0), here_.size() * part_size_, PROT_NONE,
           MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE))
    return false;
  std::fill(here_.begin(), here_.end(), false);
  kept_ = 0;
  return true;
}

bool LazyFile::show_zeros(std::size_t part) {
  guard_.set_damaged();  // first: whoever reads zeros must find this set
  return map(start_of(part), part_size_, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS);
}

/// Of what is in read_.
bool LazyFile::is_right(std::size_t part) {
  const auto first = part * part_size_ / kBlock;
  const auto end = std::min(first + part_size_ / kBlock, format::verity_block_count(bytes_.size()));
  const auto* const leaves = find_leaves(first / VerityTree::kLeaves);
  if (leaves == nullptr) return false;
  const auto bytes_of = [&](std::size_t block) {
    return ByteView(read_).subspan((block - first) * kBlock, kBlock);
  };
  const auto leaf_of = [&](std::size_t block) { return (*leaves)[block % VerityTree::kLeaves]; };
  auto block = first;
  for (; block + 1 < end; block += 2) {
    const auto hashes = format::sha256_of_both(bytes_of(block), bytes_of(block + 1));
    if (hashes[0] != leaf_of(block) || hashes[1] != leaf_of(block + 1)) return false;
  }
  return block == end || format::sha256(bytes_of(block)) == leaf_of(block);
}

/// Null if they cannot be had. Valid until the next call.
const VerityTree::Leaves* LazyFile::find_leaves(std::size_t hash_block) {
  if (const auto found = std::ranges::find(hash_blocks_, hash_block); found != hash_blocks_.end())
    return &leaves_[static_cast<std::size_t>(found - hash_blocks_.begin())];
  if (leaves_.size() == kMostLeaves) {
    hash_blocks_.clear();
    leaves_.clear();
  }
  auto& leaves = leaves_.emplace_back();
  if (!tree_.read(hash_block, leaves) &&
      !(hash_leaves(hash_block, leaves) && tree_.mend(hash_block, leaves))) {
    leaves_.pop_back();
    return nullptr;
  }
  hash_blocks_.push_back(hash_block);
  return &leaves;
}

bool LazyFile::hash_leaves(std::size_t hash_block, VerityTree::Leaves& leaves) {
  leaves = {};
  const auto first = hash_block * VerityTree::kLeaves;
  const auto end = std::min(first + VerityTree::kLeaves, format::verity_block_count(bytes_.size()));
  for (auto block = first; block < end; ++block) {
    const auto offset = block * kBlock;
    std::array<std::byte, kBlock> bytes{};
    const auto size = std::min<std::size_t>(kBlock, bytes_.size() - offset);
    if (!try_read_at(file_, offset, std::span(bytes).first(size))) return false;
    leaves[block - first] = format::sha256(bytes);
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
  if (give_all_back()) guard_.set_repaired();  // else zeros are still seen
}

}  // namespace puzzlefs::fetch
