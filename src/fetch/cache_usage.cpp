#include "fetch/cache_usage.h"

#include <fcntl.h>
#include <spdlog/fmt/fmt.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <system_error>
#include <utility>

#include "format/error.h"

namespace puzzlefs::fetch {
namespace {

using BootId = std::array<char, 36>;
using Magic = std::array<char, 8>;

constexpr Magic kMagic{'p', 'z', 'f', 's', 'u', 's', 'e', '1'};

/// Zeros where the kernel does not tell.
BootId boot_id() {
  BootId id{};
  const FileDescriptor file(::open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC));
  if (!file || ::read(file.get(), id.data(), id.size()) != ssize_t{id.size()}) return {};
  return id;
}

/// Whether a number of bytes leaves room to add others to it.
bool is_sane(std::int64_t bytes) {
  constexpr auto kMost = std::int64_t{1} << 60;
  return -kMost < bytes && bytes < kMost;
}

/// An exclusive flock() of a file that stays open.
class FileLock {
 public:
  explicit FileLock(int file) : file_(file) {
    while (::flock(file_, LOCK_EX) != 0 && errno == EINTR) continue;
  }
  ~FileLock() { ::flock(file_, LOCK_UN); }
  FileLock(const FileLock&) = delete;
  FileLock& operator=(const FileLock&) = delete;

 private:
  const int file_;
};

}  // namespace

struct CacheUsage::Record {
  Magic magic = kMagic;
  BootId boot = boot_id();
  std::uint32_t known = 0;
  std::int64_t added = 0;
  std::int64_t bytes = 0;

  std::optional<std::uint64_t> count() const {
    if (known == 0) return std::nullopt;
    return static_cast<std::uint64_t>(std::max<std::int64_t>(bytes, 0));
  }
};

std::optional<std::uint64_t> CacheUsage::get() {
  return update([](Record&) {}).count();
}

std::optional<std::uint64_t> CacheUsage::add(std::int64_t bytes) {
  return update([bytes](Record& record) {
           record.added += bytes;
           record.bytes += bytes;
         })
      .count();
}

std::int64_t CacheUsage::mark() {
  return update([](Record&) {}).added;
}

void CacheUsage::set(std::uint64_t bytes, std::int64_t mark) {
  update([bytes, mark](Record& record) {
    record.bytes = static_cast<std::int64_t>(bytes) + record.added - mark;
    record.known = 1;
  });
}

CacheUsage::Record CacheUsage::update(const std::function<void(Record&)>& change) {
  const std::lock_guard guard(mutex_);
  open();
  const FileLock lock(file_.get());
  Record fresh;
  Record record;
  const auto count = ::pread(file_.get(), &record, sizeof record, 0);
  if (count < 0) throw_errno(fmt::format("read {}", path_.native()));
  const bool usable = count == ssize_t{sizeof record} && record.magic == fresh.magic &&
                      record.boot == fresh.boot && is_sane(record.added) && is_sane(record.bytes);
  if (!usable) record = fresh;
  const auto before = record;
  change(record);
  errno = 0;
  if (usable && record.bytes == before.bytes && record.known == before.known) return record;
  if (::pwrite(file_.get(), &record, sizeof record, 0) != ssize_t{sizeof record}) {
    if (errno == 0) errno = ENOSPC;  // only a part fitted
    throw_errno(fmt::format("write {}", path_.native()));
  }
  return record;
}

// The cache may be deleted or moved away under a running program: then its file has this name no
// more. What is no file is damage, and a count that is lost is made again.
void CacheUsage::open() {
  struct stat opened {};
  struct stat named {};
  const bool exists = ::lstat(path_.c_str(), &named) == 0;
  if (file_ && exists && ::fstat(file_.get(), &opened) == 0 && opened.st_ino == named.st_ino &&
      opened.st_dev == named.st_dev) {
    return;
  }
  std::error_code ignored;
  if (exists && !S_ISREG(named.st_mode)) std::filesystem::remove(path_, ignored);
  file_ = FileDescriptor(
      ::open(path_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600));
  if (!file_) throw_errno(fmt::format("open {}", path_.native()));
}

}  // namespace puzzlefs::fetch
