#include "build/trusted_files.h"

#include <algorithm>

#include "format/nanoseconds.h"

namespace puzzlefs::build {
namespace {

// A contrived base may have fewer bytes for a file than it says.
bool covers_size(const format::Inode& inode) {
  std::uint64_t size = 0;
  for (std::uint32_t i = 0; i < inode.chunk_count(); ++i) size += inode.chunk(i).size;
  return size == inode.size();
}

std::int64_t latest_time(const format::Metadata& metadata) {
  std::int64_t latest = 0;
  for (std::uint32_t layer = 0; layer < metadata.layer_count(); ++layer) {
    const std::uint32_t count = metadata.inode_count(layer);
    for (std::uint32_t i = 0; i < count; ++i)
      latest = std::max(latest, metadata.inode(layer, i).mtime());
  }
  return latest;
}

bool is_equal(const struct timespec& a, const struct timespec& b) {
  return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec;
}

}  // namespace

TrustedFiles::TrustedFiles(const format::Metadata& base, PackWriter& writer)
    : base_(base), latest_(latest_time(base)), writer_(writer) {}

std::optional<std::vector<format::ChunkRef>> TrustedFiles::take(const struct stat& status,
                                                                format::InodeNumber number) {
  const auto inode = base_.find(number);
  if (!inode || !is_unchanged(status, *inode)) return std::nullopt;
  std::vector<format::ChunkRef> pieces;
  for (std::uint32_t i = 0; i < inode->chunk_count(); ++i) {
    pieces.push_back(inode->chunk(i));
    writer_.keep(pieces.back().index);
  }
  ++count_;
  pieces_ += pieces.size();
  return pieces;
}

bool TrustedFiles::is_unchanged(const struct stat& status, const format::Inode& base) const {
  const auto recorded = base.mtime();
  const auto time = format::to_timespec(recorded);
  if (base.type() != format::FileType::kRegular || recorded == 0 ||
      !is_equal(time, status.st_mtim) ||
      base.size() != static_cast<std::uint64_t>(status.st_size)) {
    return false;
  }
  // In a base whose times are clamped the epoch, a full second, stands for any later time.
  const bool may_be_epoch = recorded == latest_ && time.tv_nsec == 0;
  return !may_be_epoch && covers_size(base);
}

}  // namespace puzzlefs::build
