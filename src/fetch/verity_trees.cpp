#include "fetch/verity_trees.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <span>

#include "fetch/cache_upkeep.h"
#include "fetch/file_descriptor.h"
#include "fetch/temp_file.h"
#include "format/error.h"
#include "format/verity.h"

namespace puzzlefs::fetch {
namespace {

using Leaves = std::vector<format::Digest>;

constexpr mode_t kFileMode = 0600;

static_assert(sizeof(format::Digest) == format::Digest::kSize, "leaves are read in place");

}  // namespace

std::optional<Leaves> VerityTrees::recall(const format::Digest& blob, std::uint64_t size,
                                          const format::Digest& verity) const {
  const auto path = directory_ / blob.hex();
  const auto count = format::verity_block_count(size);
  try {
    const auto file = open_regular_file(path);
    if (file_size(file, path) != count * format::Digest::kSize) return std::nullopt;
    Leaves leaves(count);
    read_at(file, 0, std::as_writable_bytes(std::span(leaves)), path);
    if (format::verity_digest(leaves, size) != verity) return std::nullopt;
    ::utimensat(AT_FDCWD, path.c_str(), nullptr, 0);  // its last use, by which it is removed
    return leaves;
  } catch (const Error&) {
    return std::nullopt;
  }
}

bool VerityTrees::remember(const format::Digest& blob, ByteView bytes,
                           const format::Digest& verity) const {
  const auto leaves = format::verity_blocks(bytes);
  if (format::verity_digest(leaves, bytes.size()) != verity) return false;
  make_directory(directory_);
  TempFile file(directory_, kFileMode);
  file.write(std::as_bytes(std::span(leaves)));
  file.rename_to(directory_ / blob.hex());
  return true;
}

}  // namespace puzzlefs::fetch
