// The walk that counts names. Inode numbers are dense in an honest image, so what was seen is one
// bit each; numbers beyond the bit vector, which only a contrived image has, go into the map.
#include "fs/link_counter.h"

#include <spdlog/spdlog.h>

#include <algorithm>

#include "format/error.h"

namespace puzzlefs::fs {
namespace {

/// The bit vector's bound: 32 MiB.
constexpr std::uint64_t kMaxDenseNumber = std::uint64_t{1} << 28;
/// Directories of a contrived image can share one huge list of entries in the blob, so that there
/// are more names than any blob has room for, and each name is looked for in up to a thousand
/// layers. Counting ends after so many names times layers: after some seconds.
constexpr std::uint64_t kMaxSearches = std::uint64_t{1} << 26;

std::uint64_t highest_number(const format::Metadata& metadata) {
  std::uint64_t highest = 0;
  for (std::uint32_t layer = 0; layer < metadata.layer_count(); ++layer) {
    const auto count = metadata.inode_count(layer);
    if (count == 0) continue;
    const auto last = metadata.inode(layer, count - 1);  // layers are ascending
    highest = std::max(highest, format::to_integer(last.number()));
  }
  return highest;
}

}  // namespace

LinkCounter::LinkCounter(const format::Metadata& metadata)
    : metadata_(metadata),
      max_names_(kMaxSearches / metadata.layer_count()),
      seen_(std::min(highest_number(metadata), kMaxDenseNumber) + 1) {}

void LinkCounter::walk() {
  if (const auto root = metadata_.find(format::kRootInode)) count(*root);
  while (!pending_.empty() && names_ < max_names_) {
    const auto directory = pending_.back();
    pending_.pop_back();
    try {
      visit(directory);
    } catch (const CorruptError&) {
      continue;
    }
  }
  if (names_ >= max_names_) {
    spdlog::warn("The image has more than {} names; link counts are incomplete.", max_names_);
  }
  std::erase_if(links_, [](const auto& link) { return link.second < 2; });
}

void LinkCounter::visit(const format::Inode& directory) {
  const auto entries = directory.entry_count();
  for (std::uint32_t i = 0; i < entries && names_ < max_names_; ++i) {
    ++names_;
    const auto inode = metadata_.find(directory.entry(i).ino);
    if (inode && count(*inode)) ++subdirectories_[format::to_integer(directory.number())];
  }
}

bool LinkCounter::count(const format::Inode& inode) {
  const bool first = is_first_sight(format::to_integer(inode.number()));
  if (first) ++inodes_;
  try {
    const auto type = inode.type();
    if (first && type == format::FileType::kDirectory) pending_.push_back(inode);
    if (first && type == format::FileType::kRegular) bytes_ += inode.size();
    return type == format::FileType::kDirectory;
  } catch (const CorruptError&) {
    return false;
  }
}

bool LinkCounter::is_first_sight(std::uint64_t number) {
  if (number >= seen_.size()) return ++links_[number] == 1;
  if (!seen_[number]) {
    seen_[number] = true;
    return true;
  }
  ++links_.try_emplace(number, 1).first->second;
  return false;
}

}  // namespace puzzlefs::fs
