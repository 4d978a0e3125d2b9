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

std::array<Digest, 2> hash_two_blocks(ByteView data) {
  return sha256_of_both(data.first(kVerityBlockSize),
                        data.subspan(kVerityBlockSize, kVerityBlockSize));
}

}  // namespace

// Appends a digest to the hash block of `level`. A full block is hashed into the level above only
// when more comes, so that finish() finds something on every level.
void VerityHasher::Tree::add(std::size_t level, const Digest& digest) {
  if (levels_.size() == level) levels_.emplace_back().reserve(kVerityBlockSize);
  if (levels_[level].size() == kVerityBlockSize) {
    add(level + 1, sha256(levels_[level]));
    levels_[level].clear();
  }
  const auto bytes = digest.bytes();
  levels_[level].insert(levels_[level].end(), bytes.begin(), bytes.end());
}

Digest VerityHasher::Tree::finish(std::uint64_t size) {
  Digest root;
  Sha256 hash;
  for (std::size_t level = 0; level < levels_.size(); ++level) {
    const bool is_root = level + 1 == levels_.size() && levels_[level].size() == Digest::kSize;
    if (is_root)
      root = Digest::from_bytes(levels_[level]);
    else
      add(level + 1, hash_block(hash, levels_[level]));
  }
  levels_.clear();
  return describe(root, size);
}

void VerityHasher::update(ByteView data) {
  while (!data.empty()) {
    if (filled_ == 0) add_whole_blocks(data);
    const auto part = data.first(std::min(data.size(), kVerityBlockSize - filled_));
    block_.update(part);
    count(part.size());
    data = data.subspan(part.size());
  }
}

void VerityHasher::add_whole_blocks(ByteView& data) {
  while (data.size() >= 2 * kVerityBlockSize) {
    for (const Digest& digest : hash_two_blocks(data)) tree_.add(digest);
    size_ += 2 * kVerityBlockSize;
    data = data.subspan(2 * kVerityBlockSize);
  }
}

void VerityHasher::update_with(Sha256& content, ByteView data) {
  while (!data.empty()) {
    const auto part = data.first(std::min(data.size(), kVerityBlockSize - filled_));
    update_both(content, part, block_, part);
    count(part.size());
    data = data.subspan(part.size());
  }
}

void VerityHasher::count(std::size_t hashed) {
  size_ += hashed;
  filled_ += hashed;
  if (filled_ < kVerityBlockSize) return;
  tree_.add(block_.finish());
  filled_ = 0;
}

Digest VerityHasher::finish() {
  if (filled_ != 0) {
    block_.update(ByteView(kZeros).first(kVerityBlockSize - filled_));
    tree_.add(block_.finish());
    filled_ = 0;
  }
  return tree_.finish(std::exchange(size_, 0));
}

BlobDigests blob_digests(ByteView data) {
  BlobHasher hasher;
  hasher.update(data);
  return hasher.finish();
}

Digest verity_digest(ByteView data) {
  VerityHasher hasher;
  hasher.update(data);
  return hasher.finish();
}

std::vector<Digest> verity_blocks(ByteView data) {
  std::vector<Digest> blocks;
  blocks.reserve(verity_block_count(data.size()));
  for (; data.size() >= 2 * kVerityBlockSize; data = data.subspan(2 * kVerityBlockSize)) {
    const auto digests = hash_two_blocks(data);
    blocks.insert(blocks.end(), digests.begin(), digests.end());
  }
  Sha256 hash;
  for (; !data.empty(); data = data.subspan(std::min(kVerityBlockSize, data.size())))
    blocks.push_back(hash_block(hash, data.first(std::min(kVerityBlockSize, data.size()))));
  return blocks;
}

Digest verity_digest(std::vector<Digest> level, std::uint64_t size) {
  static_assert(sizeof(Digest) == Digest::kSize, "levels are hashed in place");
  while (level.size() > 1) level = verity_blocks(std::as_bytes(std::span(level)));
  return describe(level.empty() ? Digest() : level.front(), size);
}

}  // namespace puzzlefs::format
