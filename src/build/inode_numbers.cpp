#include "build/inode_numbers.h"

#include <algorithm>

namespace puzzlefs::build {
namespace {

using format::InodeNumber;

std::uint64_t highest_number(const format::Metadata* base) {
  std::uint64_t highest = format::to_integer(format::kRootInode);
  if (base == nullptr) return highest;
  for (std::uint32_t layer = 0; layer < base->layer_count(); ++layer) {
    const auto count = base->inode_count(layer);
    if (count == 0) continue;
    const auto last = base->inode(layer, count - 1).number();
    highest = std::max(highest, format::to_integer(last));
  }
  return highest;
}

}  // namespace

InodeNumbers::InodeNumbers(const format::Metadata* base)
    : base_(base), next_(highest_number(base) + 1) {
  kept_.insert(format::to_integer(format::kRootInode));
}

BaseDirectory InodeNumbers::enter(InodeNumber directory, const std::vector<std::string>& names) {
  BaseDirectory known;
  const auto inode = base_ == nullptr ? std::nullopt : base_->find(directory);
  if (!inode) return known;
  for (std::uint32_t i = 0; i < inode->entry_count(); ++i) {
    const auto entry = inode->entry(i);
    if (!base_->find(entry.ino)) continue;  // a whiteout
    if (std::binary_search(names.begin(), names.end(), entry.name))
      known.emplace(entry.name, entry.ino);
    else
      gone_.insert(entry.ino);
  }
  return known;
}

std::pair<InodeNumber, bool> InodeNumbers::number_for(const struct stat& status,
                                                      const BaseDirectory& base,
                                                      const std::string& name) {
  const bool may_be_known = !S_ISDIR(status.st_mode) && status.st_nlink > 1;
  const std::pair host(status.st_dev, status.st_ino);
  if (const auto link = links_.find(host); may_be_known && link != links_.end()) {
    if (!base.contains(name)) ++next_;  // the format has it that a new name uses up a number
    return {link->second, false};
  }
  const InodeNumber number = take_number(base, name);
  if (may_be_known) links_.emplace(host, number);
  return {number, true};
}

// The base's number for the name, unless another inode has taken it: two files of the tree may have
// been links to one in the base.
InodeNumber InodeNumbers::take_number(const BaseDirectory& base, const std::string& name) {
  const auto known = base.find(name);
  if (known != base.end() && kept_.insert(format::to_integer(known->second)).second)
    return known->second;
  return InodeNumber{next_++};
}

std::vector<InodeNumber> InodeNumbers::whiteouts() const {
  std::vector<InodeNumber> numbers;
  for (const auto number : gone_)
    if (!kept_.contains(format::to_integer(number))) numbers.push_back(number);
  return numbers;
}

}  // namespace puzzlefs::build
