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

FileReader::FileReader(int fd, const struct stat& opened, const std::string& path)
    : fd_(fd),
      size_(static_cast<std::uint64_t>(opened.st_size)),
      modified_(opened.st_mtim),
      path_(path) {
  if (size_ < kLargeFile) {
    data_end_ = size_;
    return;
  }
  ::posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL);
  find_stretch();
}

std::size_t FileReader::read(std::span<std::byte> space) {
  // Of an empty file more than its status is asked: those of procfs are not what they seem.
  if (offset_ == size_ && size_ > 0) {
    expect_unchanged();
    return 0;
  }
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
  const std::size_t got = read_data(space);
  if (got > size_ - offset_ || (got == 0 && offset_ < size_)) throw_changed();
  if (got == 0) expect_unchanged();
  offset_ += got;
  return got;
}

std::size_t FileReader::read_data(std::span<std::byte> space) const {
  for (;;) {
    const ssize_t got = ::pread(fd_, space.data(), space.size(), static_cast<off_t>(offset_));
    if (got >= 0) return static_cast<std::size_t>(got);
    if (errno != EINTR) throw_errno("read " + path_);
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
  if (errno != ENXIO) return whence == SEEK_HOLE ? size_ : offset;
  expect_unchanged();  // or what was cut off would pass for a hole up to the old end
  return size_;
}

// The time of modification tells of what the size cannot: a file written to in place, or cut off
// and filled again. Not the time of change, which a new link to the file moves too.
void FileReader::expect_unchanged() const {
  struct stat now {};
  if (::fstat(fd_, &now) != 0) throw_errno("examine " + path_);
  if (static_cast<std::uint64_t>(now.st_size) != size_ || now.st_mtim.tv_sec != modified_.tv_sec ||
      now.st_mtim.tv_nsec != modified_.tv_nsec) {
    throw_changed();
  }
}

void FileReader::throw_changed() const {
  throw Error(EBUSY, "The file " + path_ +
                         " changed while it was read; build again when nothing writes to it.");
}

}  // namespace puzzlefs::build
