// Verified blobs of one image, from the cache or from where the image lives.
#pragma once

#include <cstdint>
#include <optional>
#include <utility>

#include "fetch/blob_source.h"
#include "fetch/cache.h"
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

  /// The blob's bytes in memory. `done` runs on a worker.
  void read(const format::Descriptor& blob, Completion<Bytes> done);
  /// The blob for use in place. Up to kMaxCopiedSize it is in memory, so that what was verified
  /// cannot change. A larger one is mapped: whoever can write to its file can then change it later,
  /// or end the program by cutting it short. Blocks; not for the loop or a worker.
  Blob map(const format::Descriptor& blob);

  BlobSource& source() { return source_; }

  static constexpr std::uint64_t kMaxCopiedSize = 64 << 20;

 private:
  /// The verified blob if it is on this machine.
  std::optional<Bytes> read_here(const format::Descriptor& blob);
  /// The same, mapped.
  std::optional<MappedFile> map_here(const format::Descriptor& blob);
  std::optional<MappedFile> map_cached(const format::Descriptor& blob);
  void fetch(const format::Descriptor& blob, Freshness freshness, Completion<Bytes> done);
  /// What fetch() got, on a worker: verifies, keeps, asks once more.
  void accept(const format::Descriptor& blob, Freshness freshness, Outcome<Bytes> outcome,
              const Completion<Bytes>& done);

  Runtime& runtime_;
  BlobSource& source_;
  Cache* cache_;
};

}  // namespace puzzlefs::fetch
