// One blob on its way into a layout, of which the digest is known at the end.
#pragma once

#include <cstdint>

#include "fetch/layout.h"
#include "fetch/temp_file.h"
#include "format/bytes.h"
#include "format/digest.h"
#include "format/verity.h"

namespace puzzlefs::build {

/// A blob that the layout has now.
struct WrittenBlob {
  format::Digest digest;
  std::uint64_t size = 0;
  format::Digest verity;
  bool is_new = false;  // the layout did not have it
};

/// Under a temporary name beside the layout's blobs, and gone again unless it is finished. Not
/// thread-safe; all methods throw Error.
class BlobFile {
 public:
  /// `layout` must outlive it.
  explicit BlobFile(const fetch::Layout& layout);

  /// Gives the offset that `bytes` are at.
  std::uint64_t append(ByteView bytes);
  std::uint64_t size() const { return size_; }
  /// Gives the file its name, unless the layout has the blob already: that may have fs-verity. To
  /// be called once, at the end.
  WrittenBlob finish();

 private:
  const fetch::Layout& layout_;
  fetch::TempFile file_;
  format::BlobHasher hasher_;
  std::uint64_t size_ = 0;
};

}  // namespace puzzlefs::build
