// mmap() and munmap(), paired.
#include "fetch/mapped_file.h"

#include <spdlog/fmt/fmt.h>
#include <sys/mman.h>

#include <utility>

#include "fetch/file_descriptor.h"
#include "format/error.h"

namespace puzzlefs::fetch {

MappedFile::MappedFile(const std::filesystem::path& path)
    : MappedFile(open_regular_file(path), path) {}

MappedFile::MappedFile(const FileDescriptor& file, const std::filesystem::path& path)
    : path_(path) {
  const auto size = file_size(file, path);
  if (size == 0) return;  // mmap() refuses to map nothing
  void* const start =
      mmap(nullptr, static_cast<std::size_t>(size), PROT_READ, MAP_PRIVATE, file.get(), 0);
  if (start == MAP_FAILED) throw_errno(fmt::format("map {}", path.native()));
  bytes_ = {static_cast<const std::byte*>(start), static_cast<std::size_t>(size)};
  try {
    guard_ = FaultGuard(bytes_);
  } catch (...) {
    munmap(start, bytes_.size());
    throw;
  }
}

MappedFile::~MappedFile() {
  guard_ = FaultGuard();  // before the addresses can be those of something else
  if (!bytes_.empty()) munmap(const_cast<std::byte*>(bytes_.data()), bytes_.size());
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : path_(std::move(other.path_)),
      bytes_(std::exchange(other.bytes_, {})),
      guard_(std::move(other.guard_)) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(bytes_, other.bytes_);
  std::swap(guard_, other.guard_);
  return *this;
}

void MappedFile::check_intact() const {
  if (guard_.intact()) return;
  throw CorruptError(
      fmt::format("A part of {} can no longer be read: it was cut short or tampered with, or its "
                  "disk is broken. Unmount what uses it, delete it, and build or pull the image "
                  "again.",
                  path_.native()));
}

}  // namespace puzzlefs::fetch
