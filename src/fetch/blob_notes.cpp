// A file has the note and behind it a SHA-256 digest, of the blob's and the note: files are not
// flushed to the disk, and disks rot.
#include "fetch/blob_notes.h"

#include <fcntl.h>
#include <spdlog/fmt/fmt.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>

#include "fetch/cache_upkeep.h"
#include "fetch/file_descriptor.h"
#include "fetch/temp_file.h"
#include "format/error.h"

namespace puzzlefs::fetch {
namespace {

constexpr mode_t kFileMode = 0600;

format::Digest checksum(const format::Digest& blob, ByteView note) {
  format::Sha256 hash;
  hash.update(blob.bytes());
  hash.update(note);
  return hash.finish();
}

bool is_whole(const format::Digest& blob, ByteView file) {
  const auto [note, sum] =
      std::pair(file.first(file.size() - format::Digest::kSize), file.last(format::Digest::kSize));
  return std::ranges::equal(checksum(blob, note).bytes(), sum);
}

}  // namespace

std::filesystem::path BlobNotes::path_of(const format::Descriptor& blob) const {
  return directory_ / (blob.digest.hex() + ".note");
}

std::optional<BlobNote> BlobNotes::recall(const format::Descriptor& blob) const {
  const auto path = path_of(blob);
  try {
    const auto file = open_regular_file(path);
    const auto size = file_size(file, path);
    if (size < format::Digest::kSize || size - format::Digest::kSize > blob.size) {
      return std::nullopt;
    }
    MappedFile mapped(file, path);
    if (mapped.bytes().size() != size || !is_whole(blob.digest, mapped.bytes())) {
      return std::nullopt;
    }
    // Little of a large one may be looked at.
    ::madvise(const_cast<std::byte*>(mapped.bytes().data()), size, MADV_DONTNEED);
    ::utimensat(AT_FDCWD, path.c_str(), nullptr, 0);  // its last use, by which it is removed
    return BlobNote(std::move(mapped));
  } catch (const Error&) {
    return std::nullopt;
  }
}

void BlobNotes::remember(const format::Descriptor& blob, ByteView note) const {
  if (note.size() > blob.size) {
    throw Error(EFBIG, fmt::format("A note of {} bytes is not kept of a blob of {} bytes.",
                                   note.size(), blob.size));
  }
  make_directory(directory_);
  TempFile file(directory_, kFileMode);
  file.write(note);
  file.write(checksum(blob.digest, note).bytes());
  file.rename_to(path_of(blob));
}

}  // namespace puzzlefs::fetch
