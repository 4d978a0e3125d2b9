// fs-verity: files whose contents the kernel verifies, page by page, whenever they are read from
// the disk (Documentation/filesystems/fsverity.rst of Linux).
#pragma once

#include <atomic>
#include <filesystem>
#include <functional>
#include <optional>
#include <utility>

#include "fetch/file_descriptor.h"
#include "format/digest.h"

namespace puzzlefs::fetch {

/// The digest that the kernel holds the file to. Nothing where fs-verity is not enabled on the file
/// or not supported. Throws Error, naming `path`, for another hash algorithm than SHA-256 and for
/// any other failure.
std::optional<format::Digest> measure_fs_verity(const FileDescriptor& file,
                                                const std::filesystem::path& path);

/// Enables fs-verity with what images record: SHA-256, blocks of 4096 bytes, no salt. From then on
/// nobody can write to the file; it can be deleted. A file that has it already is left alone.
/// Throws Error, naming `path` and saying what to do, above all where it is not supported.
void enable_fs_verity(const FileDescriptor& file, const std::filesystem::path& path);

/// For an image whose manifest was authenticated: whether the kernel answers for the files of its
/// blobs. Thread-safe.
class FsVerityCheck {
 public:
  /// The fs-verity digest that the image records for a blob, if it does. Called on any thread.
  using Records = std::function<std::optional<format::Digest>(const format::Digest& blob)>;

  /// `required`: a file that the kernel does not answer for is an error.
  FsVerityCheck(bool required, Records records)
      : required_(required), records_(std::move(records)) {}

  /// True if all that is read from `file` is what the image says, or the read fails. False if that
  /// must be found out by hashing, since the kernel has not measured the file or the image does not
  /// record what to measure; the first time that is logged. Throws CorruptError if what was
  /// measured is not what was recorded, and Error in place of false if fs-verity is required.
  bool covers(const FileDescriptor& file, const std::filesystem::path& path,
              const format::Digest& blob);

 private:
  const bool required_;
  const Records records_;
  std::atomic<bool> warned_ = false;
};

}  // namespace puzzlefs::fetch
