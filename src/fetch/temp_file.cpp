#include "fetch/temp_file.h"

#include <fcntl.h>
#include <spdlog/fmt/fmt.h>
#include <unistd.h>

#include <cerrno>
#include <random>

#include "format/error.h"

namespace puzzlefs::fetch {
namespace {

// Calls `make` with temporary names until there was none like it.
template <class Make>
std::filesystem::path make_under_new_name(const std::filesystem::path& directory,
                                          const Make& make) {
  static thread_local std::mt19937 random(std::random_device{}());
  std::filesystem::path path;
  do {
    path = directory / fmt::format(".tmp-{:08x}{:08x}", random(), random());
    if (make(path)) return path;
  } while (errno == EEXIST);
  throw_errno(fmt::format("create a file in {}", directory.native()));
}

}  // namespace

TempFile::TempFile(const std::filesystem::path& directory, unsigned mode) {
  path_ = make_under_new_name(directory, [&](const std::filesystem::path& path) {
    file_ = FileDescriptor(open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode));
    return static_cast<bool>(file_);
  });
}

TempFile::~TempFile() {
  if (!renamed_) unlink(path_.c_str());
}

void TempFile::reserve(std::uint64_t size) {
  if (size == 0) return;
  while (fallocate(file_.get(), 0, 0, static_cast<off_t>(size)) != 0) {
    if (errno == EINTR) continue;
    if (errno == EOPNOTSUPP || errno == ENOSYS) return;
    throw_errno(fmt::format("write {}", path_.native()));
  }
}

void TempFile::write(ByteView data) {
  while (!data.empty()) {
    const auto written = ::write(file_.get(), data.data(), data.size());
    if (written >= 0) {
      data = data.subspan(static_cast<std::size_t>(written));
    } else if (errno != EINTR) {
      throw_errno(fmt::format("write {}", path_.native()));
    }
  }
}

void TempFile::flush() {
  if (fsync(file_.get()) != 0) throw_errno(fmt::format("flush {} to disk", path_.native()));
}

FileDescriptor TempFile::reopen() {
  auto readable = open_regular_file(path_);
  file_ = FileDescriptor();
  return readable;
}

void TempFile::rename_to(const std::filesystem::path& path) {
  if (rename(path_.c_str(), path.c_str()) != 0) {
    throw_errno(fmt::format("create {}", path.native()));
  }
  renamed_ = true;
}

void link_atomically(const std::filesystem::path& path, const std::filesystem::path& temp_directory,
                     const std::string& target) {
  const auto temporary =
      make_under_new_name(temp_directory, [&](const std::filesystem::path& name) {
        return symlink(target.c_str(), name.c_str()) == 0;
      });
  if (rename(temporary.c_str(), path.c_str()) == 0) return;
  const int code = errno;
  unlink(temporary.c_str());
  throw_errno(fmt::format("create {}", path.native()), code);
}

}  // namespace puzzlefs::fetch
