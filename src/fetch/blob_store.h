// Verified blobs of one image, from the cache or from where the image lives.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "fetch/blob_source.h"
#include "fetch/cache.h"
#include "fetch/file_descriptor.h"
#include "fetch/fs_verity.h"
#include "fetch/in_flight.h"
#include "fetch/lazy_file.h"
#include "fetch/mapped_file.h"
#include "fetch/outcome.h"
#include "fetch/runtime.h"
#include "format/metadata.h"
#include "format/oci.h"

namespace puzzlefs::fetch {

/// The bytes of a verified blob, shared by all who use them.
using BlobData = std::shared_ptr<const Bytes>;

/// The bytes of a verified blob: in memory, mapped from a file, or read as they are touched.
class Blob {
 public:
  explicit Blob(BlobData bytes) : memory_(std::move(bytes)) {}
  explicit Blob(MappedFile file) : mapped_(std::move(file)) {}
  /// `on_damage` is that of its watch.
  Blob(std::shared_ptr<const LazyFile> file, std::function<void()> on_damage)
      : lazy_(std::move(file)), on_damage_(std::move(on_damage)) {}

  /// The blob in memory of its own, if it is read as it is touched. For those who touch all of it:
  /// this takes no more memory than before when they are done. What they find to be wrong is
  /// repaired in this object. Throws Error.
  std::optional<Blob> again() const;

  /// 8-byte aligned; valid as long as this object.
  ByteView bytes() const;
  /// Throws CorruptError for bytes that were looked at and could not be read, naming their file.
  /// Valid as long as this object, which must not be moved then.
  format::BlobWatch watch() const;

 private:
  BlobData memory_;  // null if it is one of the others
  std::optional<MappedFile> mapped_;
  std::shared_ptr<const LazyFile> lazy_;
  std::function<void()> on_damage_;
};

/// When somebody who asked for a blob gets his answer.
enum class Answer {
  kAtOnce,    // when the blob was verified, though it is still being written to the cache
  kWhenKept,  // when it is in the cache, or will not be
};

/// How bytes are got that are not on this machine; as BlobSource::read().
using ByteGetter = std::function<void(Freshness freshness, Completion<Bytes> done)>;

/// Every blob that leaves it was verified against its digest, and its size where it comes from
/// elsewhere; a file of the source may only be no larger. A blob that fails is asked for once more
/// past HTTP caches; only then the answer is a CorruptError that names blob and source. A file of
/// the source that fails is a CorruptError at once, as is a descriptor of more than kMaxBlobSize.
/// A blob that another process with the same cache is fetching is waited for and taken from the
/// cache, so that it is fetched once; when that takes too long it is fetched here too. Thread-safe.
class BlobStore {
 public:
  /// `cache` may be null: then nothing is kept. All arguments must outlive the store and the
  /// operations started on it.
  BlobStore(Runtime& runtime, BlobSource& source, Cache* cache);
  /// Waits for what is still being written to the cache after its answer.
  ~BlobStore();
  BlobStore(const BlobStore&) = delete;
  BlobStore& operator=(const BlobStore&) = delete;

  /// From now on files of the source that the kernel answers for are not hashed, as the kernel
  /// verifies what is read from them. For an image whose manifest was authenticated. `check` must
  /// outlive the store; call this before other threads use it.
  void use_fs_verity(FsVerityCheck& check) { fs_verity_ = &check; }

  /// The blob's bytes in memory. `done` runs on a worker. So does `on_absent` before it, if given,
  /// once and only if the blob is not on this machine and `done` has to wait for it.
  void read(const format::Descriptor& blob, Completion<BlobData> done,
            Answer answer = Answer::kAtOnce, std::function<void()> on_absent = {});
  /// The blob's bytes, which `get` gives where the source would be asked; looks for them on this
  /// thread, which must be a worker. `done` runs on it or on another one, `on_absent` as in read().
  /// Returns whether they are not on this machine.
  bool read_by(const format::Descriptor& blob, ByteGetter get, Completion<BlobData> done,
               Answer answer, std::function<void()> on_absent);
  /// Whether it is in the cache, unverified.
  bool is_cached(const format::Digest& blob) const;
  /// The blob for use in place. One that the kernel answers for is mapped, whatever its size; else
  /// it is in memory up to kMaxCopiedSize, so that what was verified cannot change, and mapped
  /// beyond: whoever can write to its file can then change it later. Where the source would be
  /// asked `get` is, if there is one. Blocks; not for the loop or a worker.
  Blob map(const format::Descriptor& blob, ByteGetter get = {}, Answer answer = Answer::kAtOnce);
  /// Gets the blob by `get`, though it may be in the cache. `done` runs on a worker when it is
  /// there.
  void fetch(const format::Descriptor& blob, ByteGetter get, Completion<BlobData> done);

  /// From now on no other process is waited for. Thread-safe, does not block.
  void close() { closed_ = true; }

  BlobSource& source() { return source_; }

  static constexpr std::uint64_t kMaxCopiedSize = 64 << 20;

 private:
  struct Fetch;

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
  /// Answers with what is on this machine, else sees to it that it is fetched. Whether it is not
  /// here.
  bool find(const std::shared_ptr<Fetch>& fetch);
  /// Takes from the cache what another process has fetched, else fetches.
  void take_turn(const std::shared_ptr<Fetch>& fetch);
  ByteGetter from_source(const format::Descriptor& blob);
  /// Whether what was asked for is in the cache by now; then it was answered.
  bool answer_from_cache(Fetch& fetch);
  void start(const std::shared_ptr<Fetch>& fetch);
  /// What start() got, on a worker: verifies, answers, keeps, asks once more.
  void accept(const std::shared_ptr<Fetch>& fetch, Outcome<Bytes>& outcome);
  void verify(const format::Descriptor& blob, const Bytes& bytes) const;
  void keep(Fetch& fetch, const Bytes& bytes);
  void answer_and_keep(Fetch& fetch, const BlobData& data);

  Runtime& runtime_;
  BlobSource& source_;
  Cache* cache_;
  FsVerityCheck* fs_verity_ = nullptr;  // null: every file is hashed
  std::atomic<bool> closed_ = false;
  InFlight keeping_;  // blobs after their answer
};

}  // namespace puzzlefs::fetch
