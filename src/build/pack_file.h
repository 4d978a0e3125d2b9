// One pack on its way into a layout.
#pragma once

#include <cstdint>

#include "fetch/layout.h"
#include "fetch/temp_file.h"
#include "format/bytes.h"
#include "format/digest.h"
#include "format/metadata.h"
#include "format/verity.h"

namespace puzzlefs::build {

/// A pack that the layout has now.
struct FinishedPack {
  format::Pack pack;
  format::Digest verity;
  bool is_new = false;  // the layout did not have it
};

/// Under a temporary name beside the layout's blobs, and gone again unless it is finished. Not
/// thread-safe; all methods throw Error.
class PackFile {
 public:
  /// `layout` must outlive it.
  explicit PackFile(const fetch::Layout& layout);

  /// Appends a stored chunk; gives its offset.
  std::uint64_t append(ByteView stored);
  std::uint64_t size() const { return size_; }
  /// Gives the file its name, unless the layout has the pack already: that may have fs-verity. To
  /// be called once, at the end.
  FinishedPack finish();

 private:
  const fetch::Layout& layout_;
  fetch::TempFile file_;
  format::Sha256 hash_;
  format::VerityHasher verity_;
  std::uint64_t size_ = 0;
};

}  // namespace puzzlefs::build
