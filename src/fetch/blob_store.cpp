// The road of a blob from where it is to verified bytes.
#include "fetch/blob_store.h"

#include <spdlog/fmt/fmt.h>

#include <utility>

#include "fetch/file_descriptor.h"
#include "format/error.h"

namespace puzzlefs::fetch {
namespace {

/// What is wrong with `bytes` as `blob`, as a clause; empty if nothing is.
std::string mismatch(const format::Descriptor& blob, ByteView bytes) {
  if (bytes.size() != blob.size) {
    return fmt::format("{} bytes instead of {}", bytes.size(), blob.size);
  }
  const auto digest = format::sha256(bytes);
  return digest == blob.digest ? std::string()
                               : fmt::format("bytes with the digest {}", digest.to_string());
}

/// The cache verifies digests, so here the descriptor can only be wrong in the size.
void verify_cached(const format::Descriptor& blob, ByteView bytes) {
  if (bytes.size() != blob.size) {
    throw CorruptError(fmt::format("The image says that the blob {} has {} bytes; it has {}.",
                                   blob.digest.to_string(), blob.size, bytes.size()));
  }
}

void check_size(const format::Descriptor& blob) {
  if (blob.size > kMaxBlobSize) {
    throw CorruptError(
        fmt::format("The image says that the blob {} has {} bytes. More than {} are "
                    "not accepted.",
                    blob.digest.to_string(), blob.size, kMaxBlobSize));
  }
}

bool is_corrupt(const std::exception_ptr& error) {
  try {
    std::rethrow_exception(error);
  } catch (const CorruptError&) {
    return true;
  } catch (...) {
    return false;
  }
}

}  // namespace

BlobStore::BlobStore(Runtime& runtime, BlobSource& source, Cache* cache)
    : runtime_(runtime), source_(source), cache_(cache) {}

void BlobStore::read(const format::Descriptor& blob, Completion<Bytes> done) {
  runtime_.post([this, blob, done = std::move(done)] {
    std::optional<Bytes> here;
    try {
      here = read_here(blob);
    } catch (...) {
      return done(std::current_exception());
    }
    if (here) return done(std::move(*here));
    fetch(blob, Freshness::kAny, done);
  });
}

Blob BlobStore::map(const format::Descriptor& blob) {
  check_size(blob);
  if (auto here = map_local(blob)) return std::move(*here);
  const bool copied = blob.size <= kMaxCopiedSize;
  if (copied) {
    if (auto bytes = read_cached(blob)) return Blob(std::move(*bytes));
  } else if (auto file = map_cached(blob)) {
    return Blob(std::move(*file));
  }
  auto fetched = wait_for<Bytes>(
      [&](Completion<Bytes> done) { fetch(blob, Freshness::kAny, std::move(done)); });
  if (copied) return Blob(std::move(fetched));
  // From the cache's file the kernel can drop pages that are not in use, and read them again.
  if (auto file = map_cached(blob)) return Blob(std::move(*file));
  return Blob(std::move(fetched));
}

std::optional<BlobStore::LocalFile> BlobStore::open_local(const format::Descriptor& blob) {
  auto path = source_.local_path(blob.digest);
  if (path.empty()) return std::nullopt;
  auto file = open_regular_file(path);
  const bool is_covered = fs_verity_ != nullptr && fs_verity_->covers(file, path, blob.digest);
  return LocalFile{std::move(path), std::move(file), is_covered};
}

/// Nothing better can be fetched than what is here. The digest alone counts, for the Rust puzzlefs
/// gives compressed chunks the size that they have uncompressed.
void BlobStore::LocalFile::verify(const format::Descriptor& blob, ByteView bytes) const {
  if (is_covered) return;
  const auto digest = format::sha256(bytes);
  if (digest == blob.digest) return;
  throw CorruptError(fmt::format(
      "{} is not the blob {}: it has {} bytes with the digest {}. Delete it and build or pull the "
      "image again.",
      path, blob.digest.to_string(), bytes.size(), digest.to_string()));
}

std::optional<Blob> BlobStore::map_local(const format::Descriptor& blob) {
  const auto local = open_local(blob);
  if (!local) return std::nullopt;
  if (!local->is_covered && blob.size <= kMaxCopiedSize) {
    auto bytes = read_file(local->file, local->path, blob.size);
    local->verify(blob, bytes);
    return Blob(std::move(bytes));
  }
  MappedFile file(local->file, local->path);
  local->verify(blob, file.bytes());
  return Blob(std::move(file));
}

std::optional<Bytes> BlobStore::read_here(const format::Descriptor& blob) {
  check_size(blob);
  const auto local = open_local(blob);
  if (!local) return read_cached(blob);
  auto bytes = read_file(local->file, local->path, blob.size);
  local->verify(blob, bytes);
  return bytes;
}

std::optional<Bytes> BlobStore::read_cached(const format::Descriptor& blob) {
  if (cache_ == nullptr) return std::nullopt;
  auto bytes = cache_->read(blob.digest);
  if (bytes) verify_cached(blob, *bytes);
  return bytes;
}

std::optional<MappedFile> BlobStore::map_cached(const format::Descriptor& blob) {
  if (cache_ == nullptr) return std::nullopt;
  auto file = cache_->map(blob.digest);
  if (file) verify_cached(blob, file->bytes());
  return file;
}

void BlobStore::fetch(const format::Descriptor& blob, Freshness freshness, Completion<Bytes> done) {
  // The source may answer on the loop, where nothing may be hashed or written.
  auto arrived = [this, blob, freshness, done](Outcome<Bytes> outcome) {
    runtime_.post([this, blob, freshness, done, outcome = std::move(outcome)]() mutable {
      accept(blob, freshness, std::move(outcome), done);
    });
  };
  try {
    source_.read(blob, freshness, std::move(arrived));
  } catch (...) {  // it could not even begin, so it has not answered
    done(std::current_exception());
  }
}

void BlobStore::accept(const format::Descriptor& blob, Freshness freshness, Outcome<Bytes> outcome,
                       const Completion<Bytes>& done) {
  try {
    if (outcome.ok()) {
      const auto wrong = mismatch(blob, outcome.value());
      if (wrong.empty()) {
        if (cache_ != nullptr) cache_->write(blob.digest, outcome.value());
      } else {
        outcome = std::make_exception_ptr(
            CorruptError(fmt::format("{} sent wrong bytes for the blob {}: {}.",
                                     source_.description(), blob.digest.to_string(), wrong)));
      }
    }
  } catch (...) {
    outcome = std::current_exception();
  }
  if (freshness == Freshness::kAny && !outcome.ok() && is_corrupt(outcome.error())) {
    return fetch(blob, Freshness::kBypass, done);
  }
  done(std::move(outcome));
}

}  // namespace puzzlefs::fetch
