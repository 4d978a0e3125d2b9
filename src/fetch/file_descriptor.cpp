// System calls on files, with their failures turned into sentences.
#include "fetch/file_descriptor.h"

#include <fcntl.h>
#include <spdlog/fmt/fmt.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <random>
#include <string>

#include "format/error.h"

namespace puzzlefs::fetch {
namespace {

/// A file under a temporary name, removed unless it was renamed.
class TempFile {
 public:
  TempFile(const std::filesystem::path& directory, unsigned mode) {
    std::random_device random;
    do {
      path_ = directory / fmt::format(".tmp-{:08x}{:08x}", random(), random());
      file_ = FileDescriptor(open(path_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode));
    } while (!file_ && errno == EEXIST);
    if (!file_) throw_errno(fmt::format("create a file in {}", directory.native()));
  }
  ~TempFile() {
    if (!renamed_) unlink(path_.c_str());
  }
  TempFile(const TempFile&) = delete;
  TempFile& operator=(const TempFile&) = delete;

  void write(ByteView data) {
    while (!data.empty()) {
      const auto written = ::write(file_.get(), data.data(), data.size());
      if (written >= 0) {
        data = data.subspan(static_cast<std::size_t>(written));
      } else if (errno != EINTR) {
        throw_errno(fmt::format("write {}", path_.native()));
      }
    }
  }

  void flush() {
    if (fsync(file_.get()) != 0) throw_errno(fmt::format("flush {} to disk", path_.native()));
  }

  void rename_to(const std::filesystem::path& path) {
    if (rename(path_.c_str(), path.c_str()) != 0) {
      throw_errno(fmt::format("create {}", path.native()));
    }
    renamed_ = true;
  }

 private:
  std::filesystem::path path_;
  FileDescriptor file_;
  bool renamed_ = false;
};

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

}  // namespace puzzlefs::fetch
