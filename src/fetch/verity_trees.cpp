// A file has the leaves, in whole blocks, and behind them the level above, by which a mount begins:
// for a blob of 200 MB these are 1.5 MB and 12 KB.
#include "fetch/verity_trees.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <span>

#include "fetch/cache_upkeep.h"
#include "fetch/temp_file.h"
#include "format/error.h"

namespace puzzlefs::fetch {
namespace {

using Digests = std::vector<format::Digest>;

constexpr mode_t kFileMode = 0600;

static_assert(sizeof(VerityTree::Leaves) == format::kVerityBlockSize, "leaves are read in place");

std::uint64_t offset_of(std::uint64_t hash_block) {
  return hash_block * format::kVerityBlockSize;
}

// To be mended too, if the cache can be written.
FileDescriptor open_tree(const std::filesystem::path& path) {
  constexpr int kFlags = O_CLOEXEC | O_NONBLOCK | O_NOCTTY;
  FileDescriptor file(::open(path.c_str(), O_RDWR | kFlags));
  if (!file) file = FileDescriptor(::open(path.c_str(), O_RDONLY | kFlags));
  return file;
}

}  // namespace

bool VerityTree::read(std::size_t hash_block, Leaves& leaves) {
  return try_read_at(file_, offset_of(hash_block), std::as_writable_bytes(std::span(leaves))) &&
         is_right(hash_block, leaves);
}

bool VerityTree::mend(std::size_t hash_block, const Leaves& leaves) {
  if (!is_right(hash_block, leaves)) return false;
  // What another process reads in the middle of it, it does not take as right.
  const auto offset = static_cast<off_t>(offset_of(hash_block));
  [[maybe_unused]] const auto written = ::pwrite(file_.get(), leaves.data(), sizeof leaves, offset);
  return true;
}

bool VerityTree::is_right(std::size_t hash_block, const Leaves& leaves) {
  hash_.update(std::as_bytes(std::span(leaves)));
  return hash_.finish() == hash_blocks_[hash_block];
}

std::optional<VerityTree> VerityTrees::recall(const format::Digest& blob, std::uint64_t size,
                                              const format::Digest& verity) const {
  const auto path = directory_ / blob.hex();
  const auto count = VerityTree::hash_block_count(size);
  FileDescriptor file = open_tree(path);
  Digests hash_blocks(count);
  const auto bytes = std::as_writable_bytes(std::span(hash_blocks));
  try {
    if (!file || file_size(file, path) != offset_of(count) + bytes.size()) return std::nullopt;
    read_at(file, offset_of(count), bytes, path);
    if (format::verity_digest(hash_blocks, size) != verity) return std::nullopt;
  } catch (const Error&) {
    return std::nullopt;
  }
  ::utimensat(AT_FDCWD, path.c_str(), nullptr, 0);  // its last use, by which it is removed
  return VerityTree(std::move(file), std::move(hash_blocks));
}

bool VerityTrees::remember(const format::Digest& blob, ByteView bytes,
                           const format::Digest& verity) const {
  auto leaves = format::verity_blocks(bytes);
  const auto hash_blocks = format::verity_blocks(std::as_bytes(std::span(leaves)));
  if (format::verity_digest(hash_blocks, bytes.size()) != verity) return false;
  leaves.resize(hash_blocks.size() * VerityTree::kLeaves);
  make_directory(directory_);
  TempFile file(directory_, kFileMode);
  file.write(std::as_bytes(std::span(leaves)));
  file.write(std::as_bytes(std::span(hash_blocks)));
  file.rename_to(directory_ / blob.hex());
  return true;
}

}  // namespace puzzlefs::fetch
