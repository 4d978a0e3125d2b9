// A file mapped for reading.
#pragma once

#include <filesystem>

#include "format/bytes.h"

namespace puzzlefs::fetch {

/// A read-only private mapping of a whole regular file. Movable; unmapped on destruction.
class MappedFile {
 public:
  /// Throws NotFoundError if there is no such file, Error for any other failure.
  explicit MappedFile(const std::filesystem::path& path);
  ~MappedFile();
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;

  /// Page-aligned; empty for an empty file.
  ByteView bytes() const { return bytes_; }

 private:
  ByteView bytes_;
};

}  // namespace puzzlefs::fetch
