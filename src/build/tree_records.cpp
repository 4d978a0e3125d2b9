#include "build/tree_records.h"

#include <algorithm>
#include <cstdint>
#include <unordered_map>
#include <utility>

#include "format/error.h"

namespace puzzlefs::build {
namespace {

using format::FileType;
using format::InodeNumber;
using format::InodeRecord;

// Inodes of a contrived image can share one huge list in the blob, and each record has a list of
// its own. No image that somebody uses has so many names, pieces and attributes.
constexpr std::uint64_t kMaxElements = std::uint64_t{1} << 26;

class TreeReader {
 public:
  explicit TreeReader(const format::Metadata& metadata) : metadata_(metadata) {}

  std::vector<InodeRecord> run() {
    see(format::kRootInode);
    while (!stack_.empty()) step();
    for (std::size_t place = 0; place < records_.size(); ++place)
      if (records_[place].link_count == 0) records_[place].link_count = links_[place];
    return std::move(records_);
  }

 private:
  struct Level {
    std::size_t place;  // of the directory in records_
    std::size_t next_entry;
  };

  void step() {
    Level& level = stack_.back();
    const std::size_t directory = level.place;
    const auto& entries = records_[directory].entries;
    if (level.next_entry == entries.size()) return stack_.pop_back();
    const std::size_t child = see(entries[level.next_entry++].ino);
    const bool is_directory = records_[child].type == FileType::kDirectory;
    ++links_[is_directory ? directory : child];
  }

  // The place of an inode that is there; a directory that is new is gone into.
  std::size_t see(InodeNumber number) {
    const auto [found, is_new] = places_.try_emplace(number, records_.size());
    if (!is_new) return found->second;
    records_.push_back(read(metadata_.get(number)));
    const bool is_directory = records_.back().type == FileType::kDirectory;
    links_.push_back(is_directory ? 2 : 0);
    if (is_directory) stack_.push_back({records_.size() - 1, 0});
    return records_.size() - 1;
  }

  InodeRecord read(const format::Inode& inode) {
    elements_ += std::uint64_t{inode.entry_count()} + inode.chunk_count() + inode.xattr_count();
    if (elements_ > kMaxElements) {
      throw CorruptError(
          "The image's metadata has more names, pieces of files and attributes than any image "
          "has.");
    }
    InodeRecord record = format::to_record(inode);
    std::erase_if(record.entries,
                  [this](const auto& entry) { return !metadata_.find(entry.ino).has_value(); });
    std::stable_sort(record.entries.begin(), record.entries.end(),
                     [](const auto& a, const auto& b) { return a.name < b.name; });
    // They may name chunks that are not there.
    std::erase_if(record.chunks, [](const auto& piece) { return piece.size == 0; });
    return record;
  }

  const format::Metadata& metadata_;
  std::vector<InodeRecord> records_;
  std::vector<std::uint32_t> links_;  // of records_
  std::unordered_map<InodeNumber, std::size_t> places_;
  std::vector<Level> stack_;
  std::uint64_t elements_ = 0;
};

}  // namespace

std::vector<InodeRecord> read_tree_records(const format::Metadata& metadata) {
  return TreeReader(metadata).run();
}

}  // namespace puzzlefs::build
