// The walk that counts names. Inode numbers are dense in an honest image, so what was seen is one
// bit each; numbers beyond the bit vector, which only a contrived image has, go into a set.
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
  static_cast<void>(metadata_.find(format::kRootInode));  // throws if what was seen is not right
}

void LinkCounter::visit(const format::Inode& directory) {
  const auto entries = directory.entry_count();
  for (std::uint32_t i = 0; i < entries && names_ < max_names_; ++i) {
    ++names_;
    const auto inode = metadata_.find(directory.entry(i).ino);
    if (inode && count(*inode)) add_one(directory, 2);
  }
}

bool LinkCounter::count(const format::Inode& inode) {
  const bool first = is_first_sight(format::to_integer(inode.number()));
  if (first) ++inodes_;
  try {
    const auto type = inode.type();
    const bool is_directory = type == format::FileType::kDirectory;
    if (first && is_directory) pending_.push_back(inode);
    if (first && type == format::FileType::kRegular) bytes_ += inode.size();
    if (!first && !is_directory) add_one(inode, 1);
    return is_directory;
  } catch (const CorruptError&) {
    return false;
  }
}

bool LinkCounter::is_first_sight(std::uint64_t number) {
  if (number >= seen_.size()) return seen_beyond_.insert(number).second;
  const bool first = !seen_[number];
  seen_[number] = true;
  return first;
}

void LinkCounter::add_one(const format::Inode& inode, std::uint32_t start) {
  ++counts_.try_emplace(format::to_integer(inode.number()), start).first->second;
}

}  // namespace puzzlefs::fs
