// An open file descriptor as a value, and whole-file reading and writing on it.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <utility>

#include "format/bytes.h"

namespace puzzlefs::fetch {

/// Owns a file descriptor; closes it on destruction. Movable.
class FileDescriptor {
 public:
  FileDescriptor() = default;
  explicit FileDescriptor(int fd) : fd_(fd) {}
  ~FileDescriptor();
  FileDescriptor(FileDescriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  FileDescriptor& operator=(FileDescriptor&& other) noexcept;

  /// The descriptor, or -1 if there is none.
  int get() const { return fd_; }
  explicit operator bool() const { return fd_ >= 0; }

 private:
  int fd_ = -1;
};

/// Opens a regular file for reading. Throws NotFoundError if there is none, Error for any other
/// failure and for what is not a regular file (a FIFO is not waited for).
FileDescriptor open_regular_file(const std::filesystem::path& path);
/// Opens a directory, to lock or to flush it. Throws Error.
FileDescriptor open_directory(const std::filesystem::path& path);

/// Another descriptor of the same open file. Throws Error.
FileDescriptor duplicate(const FileDescriptor& file);

/// The size of an open file. Throws Error, naming `path`.
std::uint64_t file_size(const FileDescriptor& file, const std::filesystem::path& path);

/// The bytes of a regular file. Throws as open_regular_file(), and CorruptError for a file of more
/// than `max_size` bytes.
Bytes read_file(const std::filesystem::path& path, std::uint64_t max_size);
/// As above, of a file that is open; `path` is for messages.
Bytes read_file(const FileDescriptor& file, const std::filesystem::path& path,
                std::uint64_t max_size);

/// Fills `bytes` from `offset` of an open file on. Throws Error, naming `path`; CorruptError if the
/// file ends before.
void read_at(const FileDescriptor& file, std::uint64_t offset, std::span<std::byte> bytes,
             const std::filesystem::path& path);

/// As above, but false if it cannot. Takes no memory.
bool try_read_at(const FileDescriptor& file, std::uint64_t offset,
                 std::span<std::byte> bytes) noexcept;

/// False if `bytes` cannot all be written at `offset`. Takes no memory.
bool try_write_at(const FileDescriptor& file, std::uint64_t offset, ByteView bytes) noexcept;

/// An empty file in memory that has no name. Throws Error.
FileDescriptor make_memory_file();

/// Whether a file is on the disk, and not only in the kernel's memory, when writing it returns.
enum class Durability { kNone, kFlushed };

/// Makes `path` a file with these bytes, all at once for whoever looks: they are written to a
/// temporary name in `temp_directory`, of the same file system, and renamed. The mode is `mode`
/// less the umask. Throws Error, and leaves nothing behind then.
void write_file_atomically(const std::filesystem::path& path,
                           const std::filesystem::path& temp_directory, ByteView data,
                           unsigned mode, Durability durability = Durability::kNone);

/// An exclusive flock() on a directory, until destruction. It leaves no file behind, and binds only
/// those who take it too. On a file system without locks it is no lock.
class DirectoryLock {
 public:
  /// Waits for the lock. Throws Error if the directory cannot be opened.
  explicit DirectoryLock(const std::filesystem::path& directory);
  /// Nothing if somebody else has it. Throws Error if the directory cannot be opened.
  static std::optional<DirectoryLock> try_lock(const std::filesystem::path& directory);

 private:
  explicit DirectoryLock(FileDescriptor directory) : directory_(std::move(directory)) {}

  FileDescriptor directory_;
};

}  // namespace puzzlefs::fetch
