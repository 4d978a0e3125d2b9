// The two requests of fs-verity, and what their failures mean.
#include "fetch/fs_verity.h"

#include <linux/fsverity.h>
#include <spdlog/fmt/fmt.h>
#include <spdlog/spdlog.h>
#include <sys/ioctl.h>

#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <string>
#include <system_error>

#include "format/error.h"

namespace puzzlefs::fetch {
namespace {

constexpr std::uint32_t kBlockSize = 4096;
constexpr std::size_t kMaxDigestSize = 64;  // FS_VERITY_MAX_DIGEST_SIZE of the kernel

/// struct fsverity_digest ends in a flexible array, here with room for any digest.
struct Measurement {
  std::uint16_t algorithm = 0;
  std::uint16_t size = kMaxDigestSize;
  std::array<std::byte, kMaxDigestSize> digest{};
};
static_assert(offsetof(Measurement, digest) == sizeof(fsverity_digest));

/// ENOTTY: the file system knows nothing of fs-verity. EOPNOTSUPP: it could, but the kernel was
/// built without, or the feature is off.
bool is_unsupported(int code) {
  return code == ENOTTY || code == EOPNOTSUPP;
}

std::string advice_on_enabling(int code) {
  switch (code) {
    case ETXTBSY:
      return "a program has it open for writing; end that first";
    case EACCES:
      return "you may not write to it; become its owner or root";
    case EPERM:
      return "it is marked as append-only or immutable, see chattr(1)";
    case EROFS:
      return "its file system is mounted read-only";
    case EBUSY:
      return "another program is enabling it just now; try again";
    default:
      return std::generic_category().message(code);
  }
}

}  // namespace

std::optional<format::Digest> measure_fs_verity(const FileDescriptor& file,
                                                const std::filesystem::path& path) {
  Measurement measured;
  if (::ioctl(file.get(), FS_IOC_MEASURE_VERITY, &measured) != 0) {
    if (errno == ENODATA || is_unsupported(errno)) return std::nullopt;
    throw_errno(fmt::format("measure the fs-verity digest of {}", path.native()));
  }
  if (measured.algorithm != FS_VERITY_HASH_ALG_SHA256 || measured.size != format::Digest::kSize) {
    throw Error(EINVAL, fmt::format("fs-verity was enabled on {} with another hash than SHA-256. "
                                    "Replace it by a copy, and enable it on that with \"puzzlefs "
                                    "enable-fs-verity\".",
                                    path.native()));
  }
  return format::Digest::from_bytes(ByteView(measured.digest).first(format::Digest::kSize));
}

void enable_fs_verity(const FileDescriptor& file, const std::filesystem::path& path) {
  fsverity_enable_arg request{};
  request.version = 1;
  request.hash_algorithm = FS_VERITY_HASH_ALG_SHA256;
  request.block_size = kBlockSize;
  while (::ioctl(file.get(), FS_IOC_ENABLE_VERITY, &request) != 0) {
    const int code = errno;
    if (code == EEXIST) return;
    if (code == EINTR) continue;
    if (is_unsupported(code)) {
      throw Error(code,
                  fmt::format("Cannot enable fs-verity on {}: its file system, or the kernel, "
                              "does not support it. It takes a kernel with CONFIG_FS_VERITY, "
                              "and ext4 after \"tune2fs -O verity DEVICE\", f2fs made with "
                              "\"-O verity\", or btrfs of Linux 5.15 or newer.",
                              path.native()));
    }
    throw Error(code, fmt::format("Cannot enable fs-verity on {}: {}.", path.native(),
                                  advice_on_enabling(code)));
  }
}

bool FsVerityCheck::covers(const FileDescriptor& file, const std::filesystem::path& path,
                           const format::Digest& blob) {
  const auto measured = measure_fs_verity(file, path);
  const auto recorded = measured ? records_(blob) : std::nullopt;
  if (measured && recorded) {
    if (*measured == *recorded) return true;
    throw CorruptError(fmt::format(
        "{} has the fs-verity digest {}, and the image records {}. Delete it and build or pull the "
        "image again. If the Rust puzzlefs built it with -c, some of its records are wrong: then "
        "only building it with this program helps.",
        path.native(), measured->hex(), recorded->hex()));
  }
  const auto shortcoming =
      measured
          ? fmt::format("the image has no fs-verity digest of {}. Build it again.", path.native())
          : fmt::format("fs-verity is not enabled on {}. \"puzzlefs enable-fs-verity\" does that.",
                        path.native());
  if (required_) {
    throw Error(EIO, "fs-verity is required, but " + shortcoming);
  }
  if (!warned_.exchange(true)) {
    spdlog::warn(
        "The kernel does not verify all files of this image; those it does not are hashed when "
        "they "
        "are read: {}",
        shortcoming);
  }
  return false;
}

}  // namespace puzzlefs::fetch
