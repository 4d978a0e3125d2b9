// Reading a file from its beginning to its end, without asking the disk for its holes.
#pragma once

#include <sys/stat.h>

#include <cstdint>
#include <span>
#include <string>

namespace puzzlefs::build {

class FileReader {
 public:
  /// The file open at `fd`, which stays the caller's and whose position changes; `opened` is what
  /// fstat(2) said of it before. `path` is for messages and must outlive the reader.
  FileReader(int fd, const struct stat& opened, const std::string& path);

  /// The next bytes, at most what there is space for; 0 at the end. Throws Error, also when the
  /// file turns out to be another one than `opened` tells of: its size or its time of modification.
  std::size_t read(std::span<std::byte> space);

 private:
  void find_stretch();
  std::uint64_t seek(std::uint64_t offset, int whence) const;
  std::size_t read_data(std::span<std::byte> space) const;
  void expect_unchanged() const;
  [[noreturn]] void throw_changed() const;

  const int fd_;
  const std::uint64_t size_;
  const struct timespec modified_;
  const std::string& path_;
  std::uint64_t offset_ = 0;
  std::uint64_t data_begin_ = 0;  // before: a hole; from there to data_end_: to be read
  std::uint64_t data_end_ = 0;
};

}  // namespace puzzlefs::build
