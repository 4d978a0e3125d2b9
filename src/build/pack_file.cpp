#include "build/pack_file.h"

#include <utility>

namespace puzzlefs::build {
namespace {

constexpr unsigned kFileMode = 0666;  // less the umask, as the layout's other blobs

}  // namespace

PackFile::PackFile(const fetch::Layout& layout)
    : layout_(layout), file_(layout.path() / "blobs" / "sha256", kFileMode) {}

std::uint64_t PackFile::append(ByteView stored) {
  file_.write(stored);
  hash_.update(stored);
  verity_.update(stored);
  return std::exchange(size_, size_ + stored.size());
}

FinishedPack PackFile::finish() {
  FinishedPack finished;
  finished.pack = {.digest = hash_.finish(), .size = size_, .hot_size = 0};
  finished.verity = verity_.finish();
  finished.is_new = !layout_.has_blob(finished.pack.digest, size_);
  if (finished.is_new) file_.rename_to(layout_.blob_path(finished.pack.digest));
  return finished;
}

}  // namespace puzzlefs::build
