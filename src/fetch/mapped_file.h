// A file mapped for reading.
#pragma once

#include <atomic>
#include <cstdint>
#include <filesystem>

#include "fetch/fault_guard.h"
#include "fetch/file_descriptor.h"
#include "format/bytes.h"

namespace puzzlefs::fetch {

/// A read-only private mapping of a whole regular file. Movable; unmapped on destruction.
class MappedFile {
 public:
  /// Throws NotFoundError if there is no such file, Error for any other failure.
  explicit MappedFile(const std::filesystem::path& path);
  /// As above, of a file that is open; `path` is for messages.
  MappedFile(const FileDescriptor& file, const std::filesystem::path& path);
  ~MappedFile();
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;

  /// Page-aligned; empty for an empty file.
  ByteView bytes() const { return bytes_; }

  /// Throws CorruptError, naming the file, if a page of it that was looked at could not be read: it
  /// then reads as zeros. Bytes that were not hashed must be followed by this before they are used.
  void check_intact() const;
  /// Odd when a page could not be read. Valid as long as the mapping; not for an empty file.
  const std::atomic<std::uint64_t>& state() const { return guard_.state(); }

 private:
  std::filesystem::path path_;
  ByteView bytes_;
  FaultGuard guard_;
};

}  // namespace puzzlefs::fetch
