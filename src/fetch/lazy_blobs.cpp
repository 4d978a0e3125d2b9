// Opening by the cached tree, or making the tree. A repair runs beside those who read: waiting for
// it could hold up the very threads that it needs.
#include "fetch/lazy_blobs.h"

#include <spdlog/fmt/fmt.h>
#include <spdlog/spdlog.h>

#include <atomic>
#include <chrono>
#include <exception>
#include <string>
#include <utility>

#include "fetch/file_descriptor.h"
#include "format/error.h"

namespace puzzlefs::fetch {
namespace {

using Clock = std::chrono::steady_clock;

/// Each look at the metadata would ask an unreachable registry anew.
constexpr std::chrono::seconds kPause{5};

FileDescriptor file_in_memory(const Bytes& bytes) {
  auto file = make_memory_file();
  if (!try_write_at(file, 0, bytes)) throw_errno("write a file in memory");
  return file;
}

[[noreturn]] void throw_damaged(const std::string& path) {
  throw CorruptError(
      fmt::format("A part of {} is not what it should be: it was tampered with, or its disk is "
                  "broken. Unmount what uses it, delete it, and build or pull the image again.",
                  path));
}

}  // namespace

/// A cached blob that is fetched again when a part of it is found to be wrong.
struct LazyBlobs::Repair {
  format::Descriptor blob;
  ByteGetter get;
  std::shared_ptr<LazyFile> file;
  std::atomic<bool> is_under_way = false;
  std::atomic<Clock::duration> not_before{};  // after a failure
};

LazyBlobs::~LazyBlobs() {
  in_flight_.wait_until_none();
}

Blob LazyBlobs::map(const format::Descriptor& blob, const ByteGetter& get,
                    const format::Digest& verity) {
  const bool is_large = blob.size >= kLeastSize && blob.size <= kMaxBlobSize;
  if (!is_large || !cache_.is_usable()) return blobs_.map(blob, get);
  if (auto lazy = open(blob, get, verity)) return std::move(*lazy);
  auto whole = blobs_.map(blob, get, Answer::kWhenKept);
  try {
    if (!cache_.trees().remember(blob.digest, whole.bytes(), verity)) return whole;
  } catch (const Error& error) {
    spdlog::debug("The next mount has to verify the metadata again: {}", error.what());
    return whole;
  }
  auto lazy = open(blob, get, verity);
  return lazy ? std::move(*lazy) : std::move(whole);
}

std::optional<Blob> LazyBlobs::open(const format::Descriptor& blob, const ByteGetter& get,
                                    const format::Digest& verity) {
  auto tree = cache_.trees().recall(blob.digest, blob.size, verity);
  if (!tree) return std::nullopt;
  const auto path = blobs_.source().local_path(blob.digest);
  auto file = path.empty() ? cache_.open(blob.digest) : open_regular_file(path);
  if (!file || file_size(file, path) != blob.size) return std::nullopt;
  std::shared_ptr<LazyFile> lazy;
  try {
    lazy = std::make_shared<LazyFile>(std::move(file), blob.size, std::move(*tree));
  } catch (const Error& error) {  // of what the system gives, it needs more than a whole blob
    spdlog::debug("All of the metadata is read and verified: {}", error.what());
    return std::nullopt;
  }
  if (!path.empty()) return Blob(lazy, [path] { throw_damaged(path); });
  return Blob(lazy, repairing(blob, get, lazy));
}

std::function<void()> LazyBlobs::repairing(const format::Descriptor& blob, const ByteGetter& get,
                                           std::shared_ptr<LazyFile> file) {
  const auto repair = std::make_shared<Repair>();
  repair->blob = blob;
  repair->get = get ? get : [this, blob](Freshness freshness, Completion<Bytes> done) {
    blobs_.source().read(blob, freshness, std::move(done));
  };
  repair->file = std::move(file);
  return [this, repair] {
    begin(repair);
    throw UnavailableError(
        fmt::format("A part of the cached blob {} is not what it should be. It is being fetched "
                    "again; try again in a moment.",
                    repair->blob.digest.to_string()));
  };
}

/// The verified bytes go into a file of their own, as the cache may not be able to keep them. What
/// is in the cache is verified before it is taken, for another process may have repaired it.
void LazyBlobs::begin(const std::shared_ptr<Repair>& repair) {
  if (Clock::now().time_since_epoch() < repair->not_before.load()) return;
  if (repair->is_under_way.exchange(true)) return;
  const auto token = std::make_shared<InFlight::Token>(in_flight_.enter());
  blobs_.fetch(repair->blob, repair->get, [repair, token](Outcome<BlobData> outcome) {
    try {
      repair->file->replace(file_in_memory(*outcome.value()));
    } catch (const std::exception& error) {
      spdlog::warn("{} cannot be had again: {}", repair->blob.digest.to_string(), error.what());
      repair->not_before = (Clock::now() + kPause).time_since_epoch();
    }
    repair->is_under_way = false;
  });
}

}  // namespace puzzlefs::fetch
