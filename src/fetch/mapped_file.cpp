// mmap() and munmap(), paired.
#include "fetch/mapped_file.h"

#include <spdlog/fmt/fmt.h>
#include <sys/mman.h>

#include <utility>

#include "fetch/file_descriptor.h"
#include "format/error.h"

namespace puzzlefs::fetch {

MappedFile::MappedFile(const std::filesystem::path& path) {
  const auto file = open_regular_file(path);
  const auto size = file_size(file, path);
  if (size == 0) return;  // mmap() refuses to map nothing
  void* const start =
      mmap(nullptr, static_cast<std::size_t>(size), PROT_READ, MAP_PRIVATE, file.get(), 0);
  if (start == MAP_FAILED) throw_errno(fmt::format("map {}", path.native()));
  bytes_ = {static_cast<const std::byte*>(start), static_cast<std::size_t>(size)};
}

MappedFile::~MappedFile() {
  if (!bytes_.empty()) munmap(const_cast<std::byte*>(bytes_.data()), bytes_.size());
}

MappedFile::MappedFile(MappedFile&& other) noexcept : bytes_(std::exchange(other.bytes_, {})) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(bytes_, other.bytes_);
  return *this;
}

}  // namespace puzzlefs::fetch
