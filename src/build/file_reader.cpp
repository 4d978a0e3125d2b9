#include "build/file_reader.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "format/error.h"

namespace puzzlefs::build {
namespace {

// From this size on the kernel is told that a file will be read to its end, and asked for holes.
constexpr std::uint64_t kLargeFile = 1 << 20;

}  // namespace

FileReader::FileReader(int fd, std::uint64_t size, const std::string& path)
    : fd_(fd), size_(size), path_(path) {
  if (size < kLargeFile) {
    data_end_ = size;
    return;
  }
  ::posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL);
  find_stretch();
}

std::size_t FileReader::read(std::span<std::byte> space) {
  if (offset_ >= data_end_ && offset_ < size_) find_stretch();
  if (offset_ < data_begin_) {
    const auto size =
        static_cast<std::size_t>(std::min<std::uint64_t>(space.size(), data_begin_ - offset_));
    std::fill_n(space.begin(), size, std::byte{0});
    offset_ += size;
    return size;
  }
  // Not beyond the stretch, but at the end of the file as far as it goes: it may have grown.
  if (data_end_ < size_) {
    space = space.first(
        static_cast<std::size_t>(std::min<std::uint64_t>(space.size(), data_end_ - offset_)));
  }
  for (;;) {
    const ssize_t got = ::pread(fd_, space.data(), space.size(), static_cast<off_t>(offset_));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) throw_errno("read " + path_);
    offset_ += static_cast<std::size_t>(got);
    return static_cast<std::size_t>(got);
  }
}

// The next data, from offset_ on, and where it ends.
void FileReader::find_stretch() {
  data_begin_ = std::min(seek(offset_, SEEK_DATA), size_);
  data_end_ = data_begin_ < size_ ? std::min(seek(data_begin_, SEEK_HOLE), size_) : size_;
  if (data_end_ <= data_begin_) data_end_ = size_;  // it changes just now
}

std::uint64_t FileReader::seek(std::uint64_t offset, int whence) const {
  const off_t found = ::lseek(fd_, static_cast<off_t>(offset), whence);
  if (found >= 0) return static_cast<std::uint64_t>(found);
  // ENXIO: no more data. Anything else: a file system that knows nothing of holes.
  return errno == ENXIO || whence == SEEK_HOLE ? size_ : offset;
}

}  // namespace puzzlefs::build
