// The road of a blob from where it is to verified bytes.
#include "fetch/blob_store.h"

#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <chrono>
#include <utility>

#include "fetch/fetch_claims.h"
#include "fetch/file_descriptor.h"
#include "format/error.h"

namespace puzzlefs::fetch {
namespace {

using std::chrono::milliseconds;

/// How often is looked whether another process has fetched a blob: soon at first, for a chunk takes
/// a round trip and little more.
constexpr milliseconds kFirstPause{1};
constexpr milliseconds kLongestPause{50};

/// How long another process may take: a small blob about a round trip with its retries, a large
/// one what a thin link needs.
milliseconds patience(const format::Descriptor& blob) {
  constexpr milliseconds kBase{10'000};
  constexpr std::uint64_t kSlowRate = 50;  // bytes per millisecond
  return kBase + milliseconds(blob.size / kSlowRate);
}

BlobData share(Bytes bytes) {
  return std::make_shared<const Bytes>(std::move(bytes));
}

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

/// A blob on its way, as long as anybody of the store still has to do with it.
struct BlobStore::Fetch {
  format::Descriptor blob;
  ByteGetter get;
  Completion<BlobData> done;
  std::function<void()> on_absent = {};
  Answer answer = Answer::kAtOnce;
  Freshness freshness = Freshness::kAny;
  std::optional<FetchClaim> claim{};  // nothing if there is no cache, or patience was lost
  milliseconds pause = kFirstPause;   // before the next look
  milliseconds waited{0};
};

std::optional<Blob> Blob::again() const {
  if (!lazy_) return std::nullopt;
  return Blob(lazy_->again(), on_damage_);
}

ByteView Blob::bytes() const {
  if (lazy_) return lazy_->bytes();
  return mapped_ ? mapped_->bytes() : ByteView(*memory_);
}

format::BlobWatch Blob::watch() const {
  if (lazy_) return {&lazy_->state(), on_damage_};
  if (!mapped_ || mapped_->bytes().empty()) return {};
  return {&mapped_->state(), [this] { mapped_->check_intact(); }};
}

BlobStore::BlobStore(Runtime& runtime, BlobSource& source, Cache* cache)
    : runtime_(runtime), source_(source), cache_(cache) {}

BlobStore::~BlobStore() {
  keeping_.wait_until_none();
}

ByteGetter BlobStore::from_source(const format::Descriptor& blob) {
  return [this, blob](Freshness freshness, Completion<Bytes> done) {
    source_.read(blob, freshness, std::move(done));
  };
}

void BlobStore::read(const format::Descriptor& blob, Completion<BlobData> done, Answer answer,
                     std::function<void()> on_absent) {
  auto fetch = std::make_shared<Fetch>(Fetch{.blob = blob,
                                             .get = from_source(blob),
                                             .done = std::move(done),
                                             .on_absent = std::move(on_absent),
                                             .answer = answer});
  runtime_.post([this, fetch] { find(fetch); });
}

bool BlobStore::read_by(const format::Descriptor& blob, ByteGetter get, Completion<BlobData> done,
                        Answer answer, std::function<void()> on_absent) {
  return find(std::make_shared<Fetch>(Fetch{.blob = blob,
                                            .get = std::move(get),
                                            .done = std::move(done),
                                            .on_absent = std::move(on_absent),
                                            .answer = answer}));
}

bool BlobStore::is_cached(const format::Digest& blob) const {
  return cache_ != nullptr && cache_->has(blob);
}

bool BlobStore::find(const std::shared_ptr<Fetch>& fetch) {
  std::optional<Bytes> here;
  try {
    here = read_here(fetch->blob);
  } catch (...) {
    fetch->done(std::current_exception());
    return false;
  }
  if (here) {
    fetch->done(share(std::move(*here)));
    return false;
  }
  if (fetch->on_absent) fetch->on_absent();
  take_turn(fetch);
  return true;
}

Blob BlobStore::map(const format::Descriptor& blob, ByteGetter get, Answer answer) {
  check_size(blob);
  if (auto here = map_local(blob)) return std::move(*here);
  const bool copied = blob.size <= kMaxCopiedSize;
  if (copied) {
    if (auto bytes = read_cached(blob)) return Blob(share(std::move(*bytes)));
  } else if (auto file = map_cached(blob)) {
    return Blob(std::move(*file));
  }
  auto fetched = wait_for<BlobData>([&](Completion<BlobData> done) {
    take_turn(std::make_shared<Fetch>(Fetch{.blob = blob,
                                            .get = get ? std::move(get) : from_source(blob),
                                            .done = std::move(done),
                                            .answer = copied ? answer : Answer::kWhenKept}));
  });
  if (copied) return Blob(std::move(fetched));
  // From the cache's file the kernel can drop pages that are not in use, and read them again.
  if (auto file = map_cached(blob)) return Blob(std::move(*file));
  return Blob(std::move(fetched));
}

void BlobStore::fetch(const format::Descriptor& blob, ByteGetter get, Completion<BlobData> done) {
  auto fetch = std::make_shared<Fetch>(Fetch{
      .blob = blob, .get = std::move(get), .done = std::move(done), .answer = Answer::kWhenKept});
  runtime_.post([this, fetch] { take_turn(fetch); });
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
    return Blob(share(std::move(bytes)));
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

void BlobStore::take_turn(const std::shared_ptr<Fetch>& fetch) {
  if (cache_ == nullptr) return start(fetch);
  fetch->claim = cache_->claims().claim(fetch->blob.digest);
  // After the claim: whoever had it may have put the blob there just before.
  if (answer_from_cache(*fetch)) return;
  if (fetch->claim || closed_ || fetch->waited > patience(fetch->blob)) return start(fetch);
  const auto pause = fetch->pause;
  fetch->waited += pause;
  fetch->pause = std::min(2 * pause, kLongestPause);
  runtime_.post_after(pause, [this, fetch] { take_turn(fetch); });
}

bool BlobStore::answer_from_cache(Fetch& fetch) {
  if (!cache_->has(fetch.blob.digest)) return false;
  std::optional<Bytes> here;
  try {
    here = read_cached(fetch.blob);
  } catch (...) {
    fetch.claim.reset();
    fetch.done(std::current_exception());
    return true;
  }
  if (!here) return false;
  fetch.claim.reset();
  fetch.done(share(std::move(*here)));
  return true;
}

void BlobStore::start(const std::shared_ptr<Fetch>& fetch) {
  // The source may answer on the loop, where nothing may be hashed or written.
  auto arrived = [this, fetch](Outcome<Bytes> outcome) {
    runtime_.post(
        [this, fetch, outcome = std::move(outcome)]() mutable { accept(fetch, outcome); });
  };
  try {
    fetch->get(fetch->freshness, std::move(arrived));
  } catch (...) {  // it could not even begin, so it has not answered
    fetch->claim.reset();
    fetch->done(std::current_exception());
  }
}

void BlobStore::accept(const std::shared_ptr<Fetch>& fetch, Outcome<Bytes>& outcome) {
  BlobData data;
  try {
    verify(fetch->blob, outcome.value());
    data = share(std::move(outcome.value()));
  } catch (...) {
    const auto error = std::current_exception();
    if (fetch->freshness == Freshness::kAny && is_corrupt(error)) {
      fetch->freshness = Freshness::kBypass;
      return start(fetch);
    }
    fetch->claim.reset();
    return fetch->done(error);
  }
  if (fetch->answer == Answer::kAtOnce) return answer_and_keep(*fetch, data);
  keep(*fetch, *data);
  fetch->done(data);
}

void BlobStore::keep(Fetch& fetch, const Bytes& bytes) {
  if (cache_ != nullptr) cache_->write(fetch.blob.digest, bytes);
  fetch.claim.reset();
}

// Whoever has his answer may end all this.
void BlobStore::answer_and_keep(Fetch& fetch, const BlobData& data) {
  const auto token = keeping_.enter();
  fetch.done(data);
  keep(fetch, *data);
}

void BlobStore::verify(const format::Descriptor& blob, const Bytes& bytes) const {
  const auto wrong = mismatch(blob, bytes);
  if (wrong.empty()) return;
  throw CorruptError(fmt::format("{} sent wrong bytes for the blob {}: {}.", source_.description(),
                                 blob.digest.to_string(), wrong));
}

}  // namespace puzzlefs::fetch
