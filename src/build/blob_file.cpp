#include "build/blob_file.h"

#include <utility>

namespace puzzlefs::build {
namespace {

constexpr unsigned kFileMode = 0666;  // less the umask, as the layout's other blobs

}  // namespace

BlobFile::BlobFile(const fetch::Layout& layout)
    : layout_(layout), file_(layout.path() / "blobs" / "sha256", kFileMode) {}

std::uint64_t BlobFile::append(ByteView bytes) {
  file_.write(bytes);
  hasher_.update(bytes);
  return std::exchange(size_, size_ + bytes.size());
}

WrittenBlob BlobFile::finish() {
  const auto [digest, verity] = hasher_.finish();
  WrittenBlob blob{.digest = digest, .size = size_, .verity = verity};
  blob.is_new = !layout_.has_blob(blob.digest, size_);
  if (blob.is_new) file_.rename_to(layout_.blob_path(blob.digest));
  return blob;
}

}  // namespace puzzlefs::build
