#include "fetch/fetch_claims.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace puzzlefs::fetch {
namespace {

off_t position_of(const format::Digest& blob) {
  std::uint64_t start = 0;
  std::memcpy(&start, blob.bytes().data(), sizeof start);
  return static_cast<off_t>(start >> 2);  // below the largest offset there is
}

}  // namespace

FetchClaim::~FetchClaim() {
  if (owner_ != nullptr) owner_->release(blob_);
}

std::optional<FetchClaim> FetchClaims::claim(const format::Digest& blob) {
  const std::lock_guard guard(mutex_);
  if (claimed_.contains(blob)) return std::nullopt;
  if (claimed_.empty()) open();
  if (!lock(blob, F_WRLCK) && (errno == EAGAIN || errno == EACCES)) return std::nullopt;
  claimed_.insert(blob);
  return FetchClaim(*this, blob);
}

void FetchClaims::release(const format::Digest& blob) {
  const std::lock_guard guard(mutex_);
  claimed_.erase(blob);
  const auto shares_byte = [&](const format::Digest& other) {
    return position_of(other) == position_of(blob);
  };
  if (std::any_of(claimed_.begin(), claimed_.end(), shares_byte)) return;
  lock(blob, F_UNLCK);
}

// The cache may be deleted under a running program: then its file has no name any more.
void FetchClaims::open() {
  struct stat status {};
  if (file_ && ::fstat(file_.get(), &status) == 0 && status.st_nlink > 0) return;
  if (path_.empty()) return;
  file_ = FileDescriptor(::open(path_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
}

bool FetchClaims::lock(const format::Digest& blob, short type) {
  struct flock region {};
  region.l_type = type;
  region.l_whence = SEEK_SET;
  region.l_start = position_of(blob);
  region.l_len = 1;
  return ::fcntl(file_.get(), F_OFD_SETLK, &region) == 0;
}

}  // namespace puzzlefs::fetch
