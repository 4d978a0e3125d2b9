// The fs-verity digest of a file, computed from what can be read of it.
#pragma once

#include <cstdint>
#include <optional>

#include "fetch/file_descriptor.h"
#include "format/digest.h"
#include "format/verity.h"

namespace puzzlefs::fetch {

/// Reads a file in steps, so that a large one does not keep a thread busy for long. Not
/// thread-safe.
class VerityReader {
 public:
  /// What is hashed before others have their turn: some milliseconds.
  static constexpr std::uint64_t kStep = 4 << 20;

  /// Reads on, `size` bytes or a little more. The digest when the end is reached, else nothing;
  /// ends with the file, so call it no more then. Throws Error.
  std::optional<format::Digest> read(const FileDescriptor& file, std::uint64_t size);

 private:
  format::VerityHasher hasher_;
  std::uint64_t offset_ = 0;
};

/// All at once. Throws Error.
format::Digest read_verity_digest(const FileDescriptor& file);

}  // namespace puzzlefs::fetch
