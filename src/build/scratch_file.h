// What a build of many files would otherwise hold in memory.
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <vector>

#include "fetch/file_descriptor.h"
#include "format/bytes.h"
#include "format/capnp_message.h"

namespace puzzlefs::build {

/// A file without a name, which goes with the object. Not thread-safe; all methods throw Error.
class ScratchFile {
 public:
  /// On the file system of `directory`.
  explicit ScratchFile(const std::filesystem::path& directory);

  void append(ByteView bytes);
  std::uint64_t size() const { return size_; }
  /// Fills `bytes` from `offset` on; they must have been appended.
  void read(std::uint64_t offset, std::span<std::byte> bytes) const;
  /// So many bytes more at the end, zeroed and with room on the disk, mapped until they are
  /// unmapped by the caller. Empty where the file system cannot map a file to be written.
  std::span<std::byte> map_more(std::uint64_t size);

 private:
  void reserve(std::uint64_t offset, std::uint64_t size);

  std::filesystem::path directory_;
  fetch::FileDescriptor file_;
  std::uint64_t size_ = 0;
};

/// Segments in a scratch file, of which no more is resident than was touched since release(); in
/// ordinary memory where files cannot be mapped. The disk must stay as it was reserved: one that
/// copies on write and is filled by others meanwhile can end the program (SIGBUS).
class ScratchSegments final : public format::SegmentMemory {
 public:
  explicit ScratchSegments(const std::filesystem::path& directory) : file_(directory) {}
  ~ScratchSegments() override;
  ScratchSegments(const ScratchSegments&) = delete;
  ScratchSegments& operator=(const ScratchSegments&) = delete;

  std::span<std::uint64_t> allocate(std::size_t words) override;
  void release() override;

 private:
  ScratchFile file_;
  std::vector<std::span<std::byte>> mappings_;
  format::HeapSegments in_memory_;
};

}  // namespace puzzlefs::build
