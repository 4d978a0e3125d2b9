// Who fetches which blob, among all who share a cache.
#pragma once

#include <filesystem>
#include <mutex>
#include <optional>
#include <unordered_set>
#include <utility>

#include "fetch/file_descriptor.h"
#include "format/digest.h"

namespace puzzlefs::fetch {

class FetchClaims;

/// The right to fetch a blob, until destruction. Movable. The claims must outlive it.
class FetchClaim {
 public:
  ~FetchClaim();
  FetchClaim(FetchClaim&& other) noexcept
      : owner_(std::exchange(other.owner_, nullptr)), blob_(other.blob_) {}
  FetchClaim& operator=(FetchClaim&& other) noexcept {
    std::swap(owner_, other.owner_);
    std::swap(blob_, other.blob_);
    return *this;
  }

 private:
  friend FetchClaims;
  FetchClaim(FetchClaims& owner, const format::Digest& blob) : owner_(&owner), blob_(blob) {}

  FetchClaims* owner_;
  format::Digest blob_;
};

/// Locks on single bytes of a file, one for each blob (F_OFD_SETLK of fcntl(2)): nothing is made or
/// deleted for a claim, and the kernel takes back those of a process that was killed. Blobs whose
/// digests begin alike share a byte, so that one may wait for the other in vain, which costs time
/// only. Where the file cannot be used claims hold in this process alone. Thread-safe, never
/// throws.
class FetchClaims {
 public:
  /// `file` is made when it is needed, and again if it was deleted.
  explicit FetchClaims(std::filesystem::path file) : path_(std::move(file)) {}

  /// Nothing if the blob is claimed already, by this process or another.
  std::optional<FetchClaim> claim(const format::Digest& blob);

 private:
  friend FetchClaim;
  void release(const format::Digest& blob);
  void open();
  bool lock(const format::Digest& blob, short type);

  const std::filesystem::path path_;
  std::mutex mutex_;  // guards all below
  FileDescriptor file_;
  std::unordered_set<format::Digest> claimed_;  // by this process, which its own locks do not stop
};

}  // namespace puzzlefs::fetch
