// A file's bytes in memory, of which each part is read when it is first touched.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "fetch/fault_guard.h"
#include "fetch/file_descriptor.h"
#include "fetch/verity_trees.h"
#include "format/bytes.h"
#include "format/digest.h"

namespace puzzlefs::fetch {

/// Memory that looks as if the file had been read into it. What is read is verified against the
/// file's fs-verity tree, each time that it is: what would become more than kMostInMemory is given
/// back, all at once. What is not right, or cannot be read, shows as zeros, and state() is odd from
/// before the first such byte is seen. Thread-safe, but not for both sides of a fork, which would
/// share what is kept. Give system calls copies of the bytes: they answer EFAULT to what is not in
/// memory.
class LazyFile : private PageSource {
 public:
  /// The metadata of some 80,000 inodes. What is larger is seldom needed as a whole, and would stay
  /// for as long as its mount.
  static constexpr std::size_t kMostInMemory = 8 << 20;

  /// `tree` is that of the `size` bytes that the file should have. Throws Error if there is no
  /// address space.
  LazyFile(FileDescriptor file, std::uint64_t size, VerityTree tree);
  ~LazyFile() override;
  LazyFile(const LazyFile&) = delete;
  LazyFile& operator=(const LazyFile&) = delete;

  /// Page-aligned.
  ByteView bytes() const { return bytes_; }
  const std::atomic<std::uint64_t>& state() const { return guard_.state(); }
  /// The same bytes in other memory, of which none was read yet. Throws Error.
  std::unique_ptr<LazyFile> again() const;
  /// All is read from this file from now on, also what was not right.
  void replace(FileDescriptor file);

 private:
  bool fill(std::byte* address) noexcept override;
  bool read(std::size_t part);
  bool keep(std::size_t part);
  bool give_all_back();
  bool show_zeros(std::size_t part);
  bool is_right(std::size_t part);
  const VerityTree::Leaves* find_leaves(std::size_t hash_block);
  bool hash_leaves(std::size_t hash_block, VerityTree::Leaves& leaves);
  std::byte* start_of(std::size_t part) const;

  const std::size_t part_size_;
  ByteView bytes_;
  FaultGuard guard_;

  mutable std::mutex mutex_;  // guards all below
  FileDescriptor file_;
  Bytes read_;              // a part, on its way
  FileDescriptor memory_;   // has those that are kept, one behind the other
  std::vector<bool> here_;  // by part
  std::size_t kept_ = 0;    // parts
  VerityTree tree_;
  std::vector<std::size_t> hash_blocks_;  // whose leaves are these:
  std::vector<VerityTree::Leaves> leaves_;
};

}  // namespace puzzlefs::fetch
