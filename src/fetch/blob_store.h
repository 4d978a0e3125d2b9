// Verified blobs of one image, from the cache or from where the image lives.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>

#include "fetch/blob_source.h"
#include "fetch/cache.h"
#include "fetch/file_descriptor.h"
#include "fetch/fs_verity.h"
#include "fetch/mapped_file.h"
#include "fetch/outcome.h"
#include "fetch/runtime.h"
#include "format/oci.h"

namespace puzzlefs::fetch {

/// The bytes of a verified blob: in memory, or mapped from a file.
class Blob {
 public:
  explicit Blob(Bytes bytes) : memory_(std::move(bytes)) {}
  explicit Blob(MappedFile file) : file_(std::move(file)) {}

  /// 8-byte aligned; valid as long as this object.
  ByteView bytes() const { return file_ ? file_->bytes() : ByteView(memory_); }
  bool is_mapped() const { return file_.has_value(); }
  /// Throws CorruptError, naming the file, if bytes that were looked at could not be read from it.
  void check_intact() const {
    if (file_) file_->check_intact();
  }

 private:
  Bytes memory_;
  std::optional<MappedFile> file_;
};

/// Every blob that leaves it was verified against its digest, and its size where it comes from
/// elsewhere; a file of the source may only be no larger. A blob that fails is asked for once more
/// past HTTP caches; only then the answer is a CorruptError that names blob and source. A file of
/// the source that fails is a CorruptError at once, as is a descriptor of more than kMaxBlobSize.
/// Thread-safe.
class BlobStore {
 public:
  /// `cache` may be null: then nothing is kept. All arguments must outlive the store and the
  /// operations started on it.
  BlobStore(Runtime& runtime, BlobSource& source, Cache* cache);

  /// From now on files of the source that the kernel answers for are not hashed, as the kernel
  /// verifies what is read from them. For an image whose manifest was authenticated. `check` must
  /// outlive the store; call this before other threads use it.
  void use_fs_verity(FsVerityCheck& check) { fs_verity_ = &check; }

  /// The blob's bytes in memory. `done` runs on a worker.
  void read(const format::Descriptor& blob, Completion<Bytes> done);
  /// The blob for use in place. One that the kernel answers for is mapped, whatever its size; else
  /// it is in memory up to kMaxCopiedSize, so that what was verified cannot change, and mapped
  /// beyond: whoever can write to its file can then change it later. Ask Blob::check_intact() after
  /// looking at it. Blocks; not for the loop or a worker.
  Blob map(const format::Descriptor& blob);

  BlobSource& source() { return source_; }

  static constexpr std::uint64_t kMaxCopiedSize = 64 << 20;

 private:
  /// A file of the source that holds a blob.
  struct LocalFile {
    std::string path;
    FileDescriptor file;
    bool is_covered = false;  // by fs-verity

    /// Throws CorruptError unless `bytes`, which were read from it, are the blob.
    void verify(const format::Descriptor& blob, ByteView bytes) const;
  };

  std::optional<LocalFile> open_local(const format::Descriptor& blob);
  std::optional<Blob> map_local(const format::Descriptor& blob);
  /// The verified blob if it is on this machine.
  std::optional<Bytes> read_here(const format::Descriptor& blob);
  std::optional<Bytes> read_cached(const format::Descriptor& blob);
  std::optional<MappedFile> map_cached(const format::Descriptor& blob);
  void fetch(const format::Descriptor& blob, Freshness freshness, Completion<Bytes> done);
  /// What fetch() got, on a worker: verifies, keeps, asks once more.
  void accept(const format::Descriptor& blob, Freshness freshness, Outcome<Bytes> outcome,
              const Completion<Bytes>& done);

  Runtime& runtime_;
  BlobSource& source_;
  Cache* cache_;
  FsVerityCheck* fs_verity_ = nullptr;  // null: every file is hashed
};

}  // namespace puzzlefs::fetch
