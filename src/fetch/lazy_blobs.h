// Large blobs that are verified where they are looked at.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>

#include "fetch/blob_store.h"
#include "fetch/cache.h"
#include "fetch/in_flight.h"
#include "fetch/lazy_file.h"
#include "format/digest.h"
#include "format/oci.h"

namespace puzzlefs::fetch {

/// Blobs of which little is read, such as the metadata of an image: neither the time nor the memory
/// that one takes grows with its size, but for the first time on this machine. Then it is read,
/// verified and hashed for its tree, which is kept in the cache. Thread-safe.
class LazyBlobs {
 public:
  /// All must outlive the object; `cache` need not be that of `blobs`.
  LazyBlobs(BlobStore& blobs, Cache& cache) : blobs_(blobs), cache_(cache) {}
  /// Waits for blobs that are fetched again, so close the source first.
  ~LazyBlobs();
  LazyBlobs(const LazyBlobs&) = delete;
  LazyBlobs& operator=(const LazyBlobs&) = delete;

  /// As BlobStore::map(), of a blob with the fs-verity digest `verity`. Where a cached one turns
  /// out to be wrong later it is fetched again, and whoever looks gets an UnavailableError
  /// until it is here. It must not outlive this object.
  Blob map(const format::Descriptor& blob, const ByteGetter& get, const format::Digest& verity);

  /// Smaller ones are as fast to read as to map.
  static constexpr std::uint64_t kLeastSize = 4 << 20;

 private:
  struct Repair;

  std::optional<Blob> open(const format::Descriptor& blob, const ByteGetter& get,
                           const format::Digest& verity);
  std::function<void()> repairing(const format::Descriptor& blob, const ByteGetter& get,
                                  std::shared_ptr<LazyFile> file);
  void begin(const std::shared_ptr<Repair>& repair);

  BlobStore& blobs_;
  Cache& cache_;
  InFlight in_flight_;  // repairs
};

}  // namespace puzzlefs::fetch
