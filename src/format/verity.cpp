#include "format/verity.h"

#include <algorithm>
#include <array>
#include <bit>

namespace puzzlefs::format {

namespace {

static_assert(std::endian::native == std::endian::little, "the descriptor is little-endian");

// struct fsverity_descriptor of the kernel (fs/verity/fsverity_private.h).
struct Descriptor {
  std::uint8_t version = 1;
  std::uint8_t hash_algorithm = 1;  // FS_VERITY_HASH_ALG_SHA256
  std::uint8_t log_block_size = 12;
  std::uint8_t salt_size = 0;
  std::uint32_t signature_size = 0;
  std::uint64_t data_size = 0;
  std::array<std::byte, 64> root_hash{};
  std::array<std::byte, 32> salt{};
  std::array<std::byte, 144> reserved{};
};
static_assert(sizeof(Descriptor) == 256);

constexpr std::array<std::byte, 4096> kZeros{};

}  // namespace

Digest VerityHasher::block_digest(ByteView block) {
  hash_.update(block);
  if (block.size() < kBlockSize) hash_.update(ByteView(kZeros).first(kBlockSize - block.size()));
  return hash_.finish();
}

// Appends a digest to the hash block of `level`. A full block is hashed into the level above only
// when more comes, so that finish() finds something on every level.
void VerityHasher::add_digest(std::size_t level, const Digest& digest) {
  if (levels_.size() == level) levels_.emplace_back().reserve(kBlockSize);
  if (levels_[level].size() == kBlockSize) {
    add_digest(level + 1, block_digest(levels_[level]));
    levels_[level].clear();
  }
  const auto bytes = digest.bytes();
  levels_[level].insert(levels_[level].end(), bytes.begin(), bytes.end());
}

void VerityHasher::update(ByteView data) {
  size_ += data.size();
  while (!data.empty()) {
    if (partial_.empty() && data.size() >= kBlockSize) {  // whole blocks are hashed where they are
      add_digest(0, block_digest(data.first(kBlockSize)));
      data = data.subspan(kBlockSize);
      continue;
    }
    const auto part = data.first(std::min(data.size(), kBlockSize - partial_.size()));
    partial_.insert(partial_.end(), part.begin(), part.end());
    data = data.subspan(part.size());
    if (partial_.size() == kBlockSize) close_partial_block();
  }
}

void VerityHasher::close_partial_block() {
  add_digest(0, block_digest(partial_));
  partial_.clear();
}

Digest VerityHasher::finish() {
  if (!partial_.empty()) close_partial_block();
  Descriptor descriptor;
  descriptor.data_size = size_;
  for (std::size_t level = 0; level < levels_.size(); ++level) {
    const bool is_root = level + 1 == levels_.size() && levels_[level].size() == Digest::kSize;
    if (is_root)
      std::copy_n(levels_[level].begin(), Digest::kSize, descriptor.root_hash.begin());
    else
      add_digest(level + 1, block_digest(levels_[level]));
  }
  levels_.clear();
  size_ = 0;
  hash_.update(std::as_bytes(std::span(&descriptor, 1)));
  return hash_.finish();
}

Digest verity_digest(ByteView data) {
  VerityHasher hasher;
  hasher.update(data);
  return hasher.finish();
}

}  // namespace puzzlefs::format
