// System calls on files, with their failures turned into sentences.
#include "fetch/file_descriptor.h"

#include <fcntl.h>
#include <spdlog/fmt/fmt.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "fetch/temp_file.h"
#include "format/error.h"

namespace puzzlefs::fetch {
namespace {

void flush_directory(const std::filesystem::path& path) {
  // EINVAL: a file system that cannot flush directories.
  if (fsync(open_directory(path).get()) != 0 && errno != EINVAL) {
    throw_errno(fmt::format("flush {} to disk", path.native()));
  }
}

}  // namespace

FileDescriptor::~FileDescriptor() {
  if (fd_ >= 0) close(fd_);
}

FileDescriptor& FileDescriptor::operator=(FileDescriptor&& other) noexcept {
  std::swap(fd_, other.fd_);
  return *this;
}

FileDescriptor open_regular_file(const std::filesystem::path& path) {
  FileDescriptor file(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
  if (!file) {
    if (errno == ENOENT || errno == ENOTDIR)
      throw NotFoundError(fmt::format("There is no file {}.", path.native()));
    throw_errno(fmt::format("open {}", path.native()));
  }
  struct stat status {};
  if (fstat(file.get(), &status) != 0) throw_errno(fmt::format("look at {}", path.native()));
  if (!S_ISREG(status.st_mode)) {
    throw Error(EINVAL, fmt::format("{} is not a regular file.", path.native()));
  }
  return file;
}

FileDescriptor open_directory(const std::filesystem::path& path) {
  FileDescriptor directory(open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!directory) throw_errno(fmt::format("open the directory {}", path.native()));
  return directory;
}

FileDescriptor duplicate(const FileDescriptor& file) {
  FileDescriptor another(::fcntl(file.get(), F_DUPFD_CLOEXEC, 0));
  if (!another) throw_errno("duplicate a file descriptor");
  return another;
}

std::uint64_t file_size(const FileDescriptor& file, const std::filesystem::path& path) {
  struct stat status {};
  if (fstat(file.get(), &status) != 0) throw_errno(fmt::format("look at {}", path.native()));
  return static_cast<std::uint64_t>(status.st_size);
}

Bytes read_file(const std::filesystem::path& path, std::uint64_t max_size) {
  return read_file(open_regular_file(path), path, max_size);
}

Bytes read_file(const FileDescriptor& file, const std::filesystem::path& path,
                std::uint64_t max_size) {
  const auto size = file_size(file, path);
  if (size > max_size) {
    throw CorruptError(fmt::format("{} has {} bytes, which is more than the {} that it may have.",
                                   path.native(), size, max_size));
  }
  Bytes bytes(static_cast<std::size_t>(size));
  std::size_t filled = 0;
  while (filled < bytes.size()) {
    const auto got = ::read(file.get(), bytes.data() + filled, bytes.size() - filled);
    if (got == 0) break;  // the file has become shorter meanwhile
    if (got > 0) {
      filled += static_cast<std::size_t>(got);
    } else if (errno != EINTR) {
      throw_errno(fmt::format("read {}", path.native()));
    }
  }
  bytes.resize(filled);
  return bytes;
}

void read_at(const FileDescriptor& file, std::uint64_t offset, std::span<std::byte> bytes,
             const std::filesystem::path& path) {
  while (!bytes.empty()) {
    const auto got = ::pread(file.get(), bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (got == 0) {
      throw CorruptError(
          fmt::format("{} ends before the byte {}, which is wanted of it.", path.native(), offset));
    }
    if (got > 0) {
      bytes = bytes.subspan(static_cast<std::size_t>(got));
      offset += static_cast<std::uint64_t>(got);
    } else if (errno != EINTR) {
      throw_errno(fmt::format("read {}", path.native()));
    }
  }
}

bool try_read_at(const FileDescriptor& file, std::uint64_t offset,
                 std::span<std::byte> bytes) noexcept {
  while (!bytes.empty()) {
    const auto got = ::pread(file.get(), bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return false;
    bytes = bytes.subspan(static_cast<std::size_t>(got));
    offset += static_cast<std::uint64_t>(got);
  }
  return true;
}

bool try_write_at(const FileDescriptor& file, std::uint64_t offset, ByteView bytes) noexcept {
  while (!bytes.empty()) {
    const auto put = ::pwrite(file.get(), bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (put < 0 && errno == EINTR) continue;
    if (put <= 0) return false;
    bytes = bytes.subspan(static_cast<std::size_t>(put));
    offset += static_cast<std::uint64_t>(put);
  }
  return true;
}

FileDescriptor make_memory_file() {
  // MFD_NOEXEC_SEAL, which Linux has, and may insist on, since 6.3; glibc names it later.
  constexpr unsigned kNotExecutable = 8;
  FileDescriptor file(::memfd_create("puzzlefs", MFD_CLOEXEC | kNotExecutable));
  if (!file && errno == EINVAL) file = FileDescriptor(::memfd_create("puzzlefs", MFD_CLOEXEC));
  if (!file) throw_errno("make a file in memory");
  return file;
}

void write_file_atomically(const std::filesystem::path& path,
                           const std::filesystem::path& temp_directory, ByteView data,
                           unsigned mode, Durability durability) {
  TempFile file(temp_directory, mode);
  file.write(data);
  // Before the rename: after a crash the name must not stand for a file without its bytes.
  if (durability == Durability::kFlushed) file.flush();
  file.rename_to(path);
  if (durability == Durability::kFlushed) flush_directory(path.parent_path());
}

DirectoryLock::DirectoryLock(const std::filesystem::path& directory)
    : directory_(open_directory(directory)) {
  // Failures other than EINTR mean that the file system has no locks (some network file systems).
  // Then concurrent changes may lose one another, but never leave a torn file, thanks to rename.
  while (flock(directory_.get(), LOCK_EX) != 0 && errno == EINTR) {
  }
}

std::optional<DirectoryLock> DirectoryLock::try_lock(const std::filesystem::path& directory) {
  auto opened = open_directory(directory);
  if (flock(opened.get(), LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) return std::nullopt;
  return DirectoryLock(std::move(opened));
}

}  // namespace puzzlefs::fetch
