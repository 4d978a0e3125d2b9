#include "format/verity.h"

#include <algorithm>
#include <array>
#include <bit>
#include <utility>

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

constexpr std::array<std::byte, kVerityBlockSize> kZeros{};

/// `root` is zeros for an empty file.
Digest describe(const Digest& root, std::uint64_t size) {
  Descriptor descriptor;
  descriptor.data_size = size;
  std::ranges::copy(root.bytes(), descriptor.root_hash.begin());
  return sha256(std::as_bytes(std::span(&descriptor, 1)));
}

Digest hash_block(Sha256& hash, ByteView block) {
  hash.update(block);
  hash.update(ByteView(kZeros).first(kVerityBlockSize - block.size()));
  return hash.finish();
}

}  // namespace

Digest VerityHasher::block_digest(ByteView block) {
  return hash_block(hash_, block);
}

// Appends a digest to the hash block of `level`. A full block is hashed into the level above only
// when more comes, so that finish() finds something on every level.
void VerityHasher::add_digest(std::size_t level, const Digest& digest) {
  if (levels_.size() == level) levels_.emplace_back().reserve(kVerityBlockSize);
  if (levels_[level].size() == kVerityBlockSize) {
    add_digest(level + 1, block_digest(levels_[level]));
    levels_[level].clear();
  }
  const auto bytes = digest.bytes();
  levels_[level].insert(levels_[level].end(), bytes.begin(), bytes.end());
}

void VerityHasher::update(ByteView data) {
  size_ += data.size();
  while (!data.empty()) {
    if (partial_.empty() &&
        data.size() >= kVerityBlockSize) {  // whole blocks are hashed where they are
      add_digest(0, block_digest(data.first(kVerityBlockSize)));
      data = data.subspan(kVerityBlockSize);
      continue;
    }
    const auto part = data.first(std::min(data.size(), kVerityBlockSize - partial_.size()));
    partial_.insert(partial_.end(), part.begin(), part.end());
    data = data.subspan(part.size());
    if (partial_.size() == kVerityBlockSize) close_partial_block();
  }
}

void VerityHasher::close_partial_block() {
  add_digest(0, block_digest(partial_));
  partial_.clear();
}

Digest VerityHasher::finish() {
  if (!partial_.empty()) close_partial_block();
  Digest root;
  for (std::size_t level = 0; level < levels_.size(); ++level) {
    const bool is_root = level + 1 == levels_.size() && levels_[level].size() == Digest::kSize;
    if (is_root)
      root = Digest::from_bytes(levels_[level]);
    else
      add_digest(level + 1, block_digest(levels_[level]));
  }
  levels_.clear();
  return describe(root, std::exchange(size_, 0));
}

Digest verity_digest(ByteView data) {
  VerityHasher hasher;
  hasher.update(data);
  return hasher.finish();
}

std::vector<Digest> verity_blocks(ByteView data) {
  std::vector<Digest> blocks;
  blocks.reserve(verity_block_count(data.size()));
  Sha256 hash;
  for (std::size_t i = 0; i < data.size(); i += kVerityBlockSize) {
    blocks.push_back(
        hash_block(hash, data.subspan(i, std::min(kVerityBlockSize, data.size() - i))));
  }
  return blocks;
}

Digest verity_digest(std::vector<Digest> level, std::uint64_t size) {
  static_assert(sizeof(Digest) == Digest::kSize, "levels are hashed in place");
  while (level.size() > 1) level = verity_blocks(std::as_bytes(std::span(level)));
  return describe(level.empty() ? Digest() : level.front(), size);
}

}  // namespace puzzlefs::format
