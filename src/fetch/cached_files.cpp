// Whole files, from the temporary name to the eviction.
#include "fetch/cached_files.h"

#include <fcntl.h>
#include <spdlog/fmt/fmt.h>
#include <spdlog/spdlog.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "fetch/cache_upkeep.h"
#include "fetch/fs_verity.h"
#include "fetch/verity_reader.h"
#include "format/error.h"

namespace puzzlefs::fetch {
namespace {

namespace fs = std::filesystem;

constexpr mode_t kFileMode = 0600;
// Less is written in no time, and the file system has not even chosen its place on the disk then.
constexpr std::uint64_t kReservedSize = 1 << 20;

std::int64_t nanoseconds(const statx_timestamp& time) {
  return time.tv_sec * 1'000'000'000 + time.tv_nsec;
}

// Nothing for what has no name any more, or is no file at all. Notes the use.
std::optional<FileIdentity> identify(const FileDescriptor& file) {
  struct statx status {};
  constexpr unsigned kWanted = STATX_BASIC_STATS | STATX_BTIME;
  if (::statx(file.get(), "", AT_EMPTY_PATH, kWanted, &status) != 0) return std::nullopt;
  if (!S_ISREG(status.stx_mode) || status.stx_nlink == 0) return std::nullopt;
  if (is_use_outdated(status.stx_mtime.tv_sec)) ::futimens(file.get(), nullptr);
  const bool has_birth = (status.stx_mask & STATX_BTIME) != 0;
  return FileIdentity{.device = ::makedev(status.stx_dev_major, status.stx_dev_minor),
                      .inode = status.stx_ino,
                      .size = status.stx_size,
                      .birth = has_birth ? nanoseconds(status.stx_btime) : 0};
}

// False if it is just being deleted. A file system without locks has nothing to say on that.
bool take_into_use(const FileDescriptor& file) {
  return ::flock(file.get(), LOCK_SH | LOCK_NB) == 0 || errno != EWOULDBLOCK;
}

}  // namespace

NewCachedFile::NewCachedFile(CachedFiles& owner, CacheRoom::Claim claim)
    : owner_(owner), claim_(std::move(claim)), temp_(owner.cache_ / "tmp", kFileMode) {}

void NewCachedFile::write(ByteView data) {
  temp_.write(data);
  hasher_.update(data);
}

CachedFile NewCachedFile::finish(format::Digest& digest) {
  digest = hasher_.finish();
  auto file = temp_.reopen();
  owner_.protect(file, temp_.path(), digest);
  take_into_use(file);
  owner_.put_in_place(temp_, digest);
  claim_.use();
  const auto identity = identify(file);
  if (!identity) throw Error(EIO, "A file vanished from the cache as it was put there.");
  return {std::move(file), *identity};
}

CachedFiles::CachedFiles(fs::path cache, CacheRoom& room, CacheTroubles& troubles)
    : cache_(std::move(cache)), room_(room), troubles_(troubles), recipes_(cache_) {}

std::optional<CachedFile> CachedFiles::open(const format::Digest& digest) {
  const auto path = path_of(digest);
  FileDescriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
  if (!file) {
    if (errno != ENOENT) spdlog::debug("{} cannot be opened: errno {}.", path.native(), errno);
    return std::nullopt;
  }
  if (!take_into_use(file)) return std::nullopt;
  const auto identity = identify(file);
  if (!identity) return std::nullopt;
  return CachedFile{std::move(file), *identity};
}

std::optional<format::Digest> CachedFiles::measure(const CachedFile& file,
                                                   const format::Digest& digest) const {
  try {
    return measure_fs_verity(file.file, path_of(digest));
  } catch (const Error& error) {
    spdlog::debug("{}", error.what());
    return std::nullopt;
  }
}

void CachedFiles::quarantine(const format::Digest& digest, const std::string& reason, bool is_use) {
  const auto path = path_of(digest);
  const auto refuge = cache_ / "quarantine" / ("file-" + digest.hex());
  troubles_.tell_of_damage(fmt::format("The cached file {}", path.native()), refuge, reason,
                           is_use);
  if (::rename(path.c_str(), refuge.c_str()) != 0) ::unlink(path.c_str());
}

std::unique_ptr<NewCachedFile> CachedFiles::create(std::uint64_t size) {
  try {
    try {
      return try_create(size);
    } catch (const Error& error) {
      if (error.code() != ENOENT) throw;
      // The cache of a running program may be deleted.
      for (const auto& directory : {cache_, cache_ / "tmp"}) make_directory(directory);
      return try_create(size);
    }
  } catch (const Error& error) {
    warn_of_write(error);
    return nullptr;
  }
}

std::unique_ptr<NewCachedFile> CachedFiles::try_create(std::uint64_t size) {
  auto claim = room_.claim(size);
  if (!claim) return nullptr;
  std::unique_ptr<NewCachedFile> file(new NewCachedFile(*this, std::move(claim)));
  if (size > kReservedSize) file->temp_.reserve(size);
  return file;
}

void CachedFiles::remember(const format::Digest& recipe, const format::Digest& digest) {
  try {
    recipes_.remember(recipe, digest);
  } catch (const Error& error) {
    warn_of_write(error);
  }
}

void CachedFiles::scrub(const std::function<void(std::uint64_t, bool)>& on_file) {
  constexpr bool kIsUse = false;
  for (const auto& [digest, size] : list_files(cache_)) {
    const auto path = path_of(digest);
    try {
      const bool good = read_verity_digest(open_regular_file(path)) == digest;
      if (!good) quarantine(digest, "Its bytes have changed.", kIsUse);
      on_file(size, good);
    } catch (const NotFoundError&) {
      // It was evicted meanwhile.
    } catch (const Error& error) {
      // What the kernel says of bytes that have changed under fs-verity, and of a broken disk.
      if (error.code() == EIO) {
        quarantine(digest, error.what(), kIsUse);
        on_file(size, false);
      } else {
        troubles_.warn_once(CacheTrouble::kRead, "The cache cannot be read", error.what());
      }
    }
  }
}

void CachedFiles::warn_of_write(const Error& error) {
  troubles_.warn_once(CacheTrouble::kWrite, "What is fetched is not kept in the cache",
                      error.what());
}

fs::path CachedFiles::path_of(const format::Digest& digest) const {
  const auto hex = digest.hex();
  return cache_ / "files" / hex.substr(0, 2) / hex;
}

void CachedFiles::protect(const FileDescriptor& file, const fs::path& path,
                          const format::Digest& digest) {
  if (!has_fs_verity_) return;
  try {
    enable_fs_verity(file, path);
  } catch (const Error& error) {
    // Where the file system lacks it, it lacks it for all; another failure is that file's.
    if (error.code() == ENOTTY || error.code() == EOPNOTSUPP) has_fs_verity_ = false;
    spdlog::debug("{}", error.what());
    return;
  }
  const auto measured = measure_fs_verity(file, path);
  if (measured && *measured != digest) {
    throw Error(EIO, fmt::format("{} was changed while it was written.", path.native()));
  }
}

void CachedFiles::put_in_place(TempFile& file, const format::Digest& digest) {
  const auto path = path_of(digest);
  struct stat old {};
  const bool replaces = ::lstat(path.c_str(), &old) == 0;
  try {
    file.rename_to(path);
  } catch (const Error& error) {
    if (error.code() != ENOENT) throw;
    make_directory(path.parent_path().parent_path());
    make_directory(path.parent_path());
    file.rename_to(path);
  }
  if (replaces) room_.give_back(static_cast<std::uint64_t>(old.st_size));
}

}  // namespace puzzlefs::fetch
