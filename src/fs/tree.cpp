// Lookups and attributes. In a packed image directories are sorted by name. In version 3 nothing
// says so, though this project and the Rust puzzlefs sort them, which is why a large one is
// examined once, when it seems to lack a name.
#include "fs/tree.h"

#include <sys/sysmacros.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <limits>

#include "format/error.h"
#include "format/nanoseconds.h"

namespace puzzlefs::fs {
namespace {

/// Up to here scanning is as fast as searching.
constexpr std::uint32_t kSmallDirectory = 32;
constexpr std::chrono::seconds kPause{1};  // until links are counted again
constexpr blksize_t kBlockSize = 4096;
constexpr std::uint64_t kStatBlockSize = 512;

bool has_contents(const format::Inode& inode) {
  const auto count = inode.chunk_count();
  for (std::uint32_t i = 0; i < count; ++i) {
    if (inode.chunk(i).size != 0) return true;
  }
  return false;
}

off_t size_of(const format::Inode& inode) {
  const auto size = inode.size();
  if (size > static_cast<std::uint64_t>(std::numeric_limits<off_t>::max())) {
    throw CorruptError("Inode " + std::to_string(format::to_integer(inode.number())) +
                       " claims to be larger than any file can be.");
  }
  // Of an empty file the kernel reads nothing, so that nobody would notice.
  if (size == 0 && has_contents(inode)) {
    throw CorruptError("Inode " + std::to_string(format::to_integer(inode.number())) +
                       " claims to be empty and has pieces.");
  }
  return static_cast<off_t>(size);
}

Tree::Totals packed_totals(const format::Metadata& metadata) {
  Tree::Totals totals;
  for (std::uint32_t layer = 0; layer < metadata.layer_count(); ++layer)
    totals.inodes += metadata.inode_count(layer);
  for (std::uint32_t pack = 0; pack < metadata.pack_count(); ++pack)
    totals.bytes += metadata.pack(pack).size;
  return totals;
}

std::optional<format::Inode> scan(const format::Metadata& metadata, const format::Inode& directory,
                                  std::string_view name) {
  const auto count = directory.entry_count();
  for (std::uint32_t i = 0; i < count; ++i) {
    const auto entry = directory.entry(i);
    if (entry.name != name) continue;
    // A whiteout may stand beside a live entry of the same name.
    if (auto inode = metadata.find(entry.ino)) return inode;
  }
  return std::nullopt;
}

/// Of a directory that is not sorted it may miss some.
std::optional<format::Inode> search(const format::Metadata& metadata,
                                    const format::Inode& directory, std::string_view name) {
  std::uint32_t low = 0;
  std::uint32_t high = directory.entry_count();
  while (low < high) {
    const auto middle = low + (high - low) / 2;
    const auto entry = directory.entry(middle);
    if (entry.name == name) return metadata.find(entry.ino);
    if (entry.name < name) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return std::nullopt;
}

}  // namespace

mode_t type_bits(format::FileType type) {
  switch (type) {
    case format::FileType::kFifo:
      return S_IFIFO;
    case format::FileType::kCharacterDevice:
    case format::FileType::kWhiteout:  // as overlayfs shows it; the tree hands out none
      return S_IFCHR;
    case format::FileType::kDirectory:
      return S_IFDIR;
    case format::FileType::kBlockDevice:
      return S_IFBLK;
    case format::FileType::kRegular:
      return S_IFREG;
    case format::FileType::kSymlink:
      return S_IFLNK;
    case format::FileType::kSocket:
      return S_IFSOCK;
  }
  return S_IFREG;
}

std::optional<format::Inode> Tree::lookup(const format::Inode& directory, std::string_view name) {
  if (directory.entry_count() > kSmallDirectory) {
    // What is found is right also where it is not sorted.
    if (auto found = search(metadata_, directory, name)) return found;
    if (is_sorted(directory)) return std::nullopt;
  }
  return scan(metadata_, directory, name);
}

bool Tree::is_sorted(const format::Inode& directory) {
  if (metadata_.version() >= format::kPackedVersion) return true;
  const auto number = format::to_integer(directory.number());
  {
    const std::lock_guard lock(sorted_mutex_);
    if (const auto known = sorted_.find(number); known != sorted_.end()) return known->second;
  }
  const auto look = metadata_.look();
  bool ascending = true;
  for (std::uint32_t i = 1; ascending && i < directory.entry_count(); ++i) {
    ascending = directory.entry(i - 1).name < directory.entry(i).name;
  }
  if (!look.was_right()) return false;  // the caller looks too
  const std::lock_guard lock(sorted_mutex_);
  sorted_.emplace(number, ascending);
  return ascending;
}

struct stat Tree::attributes(const format::Inode& inode) {
  const auto device = inode.device();
  struct stat result {};
  result.st_ino = format::to_integer(inode.number());
  result.st_mode = type_bits(inode.type()) | inode.permissions();
  result.st_nlink = link_count(inode);
  result.st_uid = inode.uid();
  result.st_gid = inode.gid();
  result.st_rdev = makedev(device.major, device.minor);
  result.st_size = size_of(inode);
  result.st_mtim = format::to_timespec(inode.mtime());
  result.st_ctim = result.st_mtim;
  result.st_atim = result.st_mtim;
  result.st_blksize = kBlockSize;
  const auto size = static_cast<std::uint64_t>(result.st_size);
  result.st_blocks = static_cast<blkcnt_t>((size + kStatBlockSize - 1) / kStatBlockSize);
  return result;
}

Tree::Totals Tree::totals() {
  if (metadata_.version() >= format::kPackedVersion) return packed_totals(metadata_);
  const auto& counted = link_counts();
  return {.inodes = counted.inodes(), .bytes = counted.bytes()};
}

std::uint32_t Tree::link_count(const format::Inode& inode) {
  if (const auto recorded = inode.link_count(); recorded != 0) return recorded;
  const std::uint32_t least = inode.type() == format::FileType::kDirectory ? 2 : 1;
  return std::max(least, link_counts().find(inode.number()));
}

// What cannot be had now takes long to find out, and everybody asks. (After an exception
// std::call_once would never end under the thread sanitizer of g++ 12.)
void Tree::count() {
  using std::chrono::steady_clock;
  if (steady_clock::now() < next_count_)
    throw Error(EIO, "The link counts could not be had just before.");
  try {
    link_counts_.emplace(count_links_ ? count_links_() : LinkCounts(metadata_));
  } catch (...) {
    next_count_ = steady_clock::now() + kPause;
    throw;
  }
}

const LinkCounts& Tree::link_counts() {
  if (counted_) return *link_counts_;
  const std::lock_guard lock(count_mutex_);
  if (!link_counts_) count();
  counted_ = true;
  return *link_counts_;
}

}  // namespace puzzlefs::fs
