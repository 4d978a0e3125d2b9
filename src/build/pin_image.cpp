#include "build/pin_image.h"

#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <cerrno>
#include <iterator>
#include <optional>
#include <string>
#include <vector>

#include "build/transfer_queue.h"
#include "fetch/cached_images.h"
#include "fetch/kept_blobs.h"
#include "fetch/stored_metadata.h"
#include "fetch/then.h"
#include "format/error.h"

namespace puzzlefs::build {
namespace {

using fetch::Cache;
using format::Descriptor;

// What blobs may take at once of memory, where they pass through.
constexpr std::uint64_t kMaxBytesInMemory = kMaxForeignBlobSize;
// While the cache is full what is fetched may not be kept.
constexpr int kRounds = 3;

// Pins, and restores what was there before unless told to keep it.
class PinGuard {
 public:
  PinGuard(const fetch::CachePins& pins, const fetch::Pin& pin)
      : pins_(pins), name_(pin.name), before_(pins.find(pin.name)) {
    pins_.add(pin);
  }
  ~PinGuard() {
    if (kept_) return;
    try {
      if (before_) {
        pins_.add(*before_);
      } else {
        pins_.remove(name_);
      }
    } catch (const Error&) {
      // The error under way says more; "cache ls" shows what became of the pin.
    }
  }
  PinGuard(const PinGuard&) = delete;
  PinGuard& operator=(const PinGuard&) = delete;

  void keep() { kept_ = true; }

 private:
  const fetch::CachePins pins_;
  const std::string name_;
  const std::optional<fetch::Pin> before_;
  bool kept_ = false;
};

std::uint64_t size_on_disk(const fetch::LayerSizes& layers) {
  std::uint64_t bytes = 0;
  for (const auto& [digest, size] : layers) bytes += fetch::disk_size(size);
  return bytes;
}

std::uint64_t missing_on_disk(const Cache& cache, const std::vector<Descriptor>& blobs) {
  std::uint64_t bytes = 0;
  for (const auto& blob : blobs) {
    if (!cache.has(blob.digest)) bytes += fetch::disk_size(blob.size);
  }
  return bytes;
}

void check_fits(Cache& cache, const fetch::CacheInfo& info, const std::string& name,
                const std::vector<Descriptor>& blobs) {
  auto pinned = fetch::pinned_layers(cache, name);
  const auto others = size_on_disk(pinned);
  for (const auto& blob : blobs) pinned.emplace(blob.digest, blob.size);
  const auto all = size_on_disk(pinned);
  if (all <= info.most_pinned) return;
  throw Error(ENOSPC,
              fmt::format("{} does not fit into the cache {}: it would take {} bytes beside {} "
                          "that are pinned, and of its limit of {} pinned images may take {}. "
                          "Unpin others, or ask for more with --cache-size.",
                          name, info.directory.native(), all - others, others, info.limit,
                          info.most_pinned));
}

// Ahead of need, for what finds no room is not kept.
void make_room(Cache& cache, const fetch::CacheInfo& info, std::uint64_t needed) {
  auto held = info.contents.bytes;
  auto available = info.available;
  const auto for_limit = info.most_pinned - std::min(needed, info.most_pinned);
  const auto for_disk = held - std::min(held, needed - std::min(needed, available));
  if (held > for_limit || needed > available) {
    const auto left = cache.shrink(std::min(for_limit, for_disk));
    available += left.freed;
  }
  if (needed <= available) return;
  throw Error(ENOSPC,
              fmt::format("The file system of the cache {} is too full: {} more bytes are needed "
                          "there, and {} can be had.",
                          info.directory.native(), needed, available));
}

StartMove fetcher(fetch::Image& image, const Cache& cache) {
  return [&image, &cache](const Descriptor& blob, const fetch::Completion<Movement>& done) {
    const auto movement = cache.has(blob.digest) ? Movement::kPresent : Movement::kMoved;
    image.blobs().read(blob,
                       fetch::then<fetch::BlobData>(
                           done, [done, movement](const fetch::BlobData&) { done(movement); }),
                       fetch::Answer::kWhenKept);
  };
}

std::vector<Descriptor> missing(const Cache& cache, const std::vector<Descriptor>& blobs) {
  std::vector<Descriptor> result;
  std::copy_if(blobs.begin(), blobs.end(), std::back_inserter(result),
               [&cache](const Descriptor& blob) { return !cache.has(blob.digest); });
  return result;
}

/// What is kept of the image. The config no reader needs.
std::vector<Descriptor> wanted_blobs(fetch::Image& image) {
  if (fetch::is_packed(image.manifest())) {
    auto blobs = fetch::plain_chunks(image.metadata());
    blobs.push_back(fetch::plain_metadata(format::metadata_layer(image.manifest(), image.name())));
    return blobs;
  }
  auto blobs = distinct_blobs(image.manifest());
  std::erase_if(blobs, [&image](const Descriptor& blob) {
    return blob.digest == image.manifest().config.digest;
  });
  return blobs;
}

/// The chunks of a packed image, some megabytes at a time; what is beside the chunks is there.
class ChunkMover {
 public:
  ChunkMover(fetch::Image& image, const Cache& cache, const ProgressCallback& on_progress)
      : image_(image), cache_(cache), on_progress_(on_progress) {}

  TransferCounts move(const std::vector<Descriptor>& blobs) {
    progress_.blobs_total = blobs.size();
    for (const auto& blob : blobs) progress_.bytes_total += blob.size;
    const auto& metadata = image_.metadata();
    std::vector<format::ChunkIndex> portion;
    std::uint64_t bytes = 0;
    for (std::uint32_t i = 0; i < metadata.chunk_count(); ++i) {
      const auto chunk = metadata.chunk(format::ChunkIndex{i});
      if (cache_.has(chunk.digest)) continue;
      portion.push_back(format::ChunkIndex{i});
      bytes += chunk.size;
      if (bytes < kPortion) continue;
      fetch(portion, bytes);
      portion.clear();
      bytes = 0;
    }
    fetch(portion, bytes);
    progress_.present_blobs = progress_.blobs_total - progress_.moved_blobs;
    progress_.present_bytes = progress_.bytes_total - progress_.moved_bytes;
    return progress_;
  }

 private:
  static constexpr std::uint64_t kPortion = 32 << 20;

  void fetch(const std::vector<format::ChunkIndex>& portion, std::uint64_t bytes) {
    if (portion.empty()) return;
    const auto failed = fetch::wait_for<std::size_t>([&](fetch::Completion<std::size_t> done) {
      image_.chunks().prefetch(portion, fetch::Priority::kBackground, std::move(done));
    });
    if (failed > 0) throw_failure(portion);
    progress_.moved_blobs += portion.size();
    progress_.moved_bytes += bytes;
    progress_.blobs_done += portion.size();
    progress_.bytes_done += bytes;
    if (on_progress_) on_progress_(progress_);
  }

  /// Asks once more for what is not there, to learn why.
  void throw_failure(const std::vector<format::ChunkIndex>& portion) {
    for (const auto index : portion) {
      const auto chunk = image_.metadata().chunk(index);
      if (cache_.has(chunk.digest)) continue;
      fetch::wait_for<fetch::ChunkData>([&](fetch::Completion<fetch::ChunkData> done) {
        image_.chunks().read({.blob = chunk.digest, .size = chunk.size, .index = index},
                             std::move(done), fetch::Purpose::kBackground);
      });
    }
  }

  fetch::Image& image_;
  const Cache& cache_;
  const ProgressCallback& on_progress_;
  TransferProgress progress_;
};

TransferCounts move_all(fetch::Image& image, Cache& cache, const std::vector<Descriptor>& blobs,
                        const ProgressCallback& on_progress) {
  if (!fetch::is_packed(image.manifest())) {
    return move_blobs(blobs, kMaxBytesInMemory, fetcher(image, cache), on_progress);
  }
  const auto layer = format::metadata_layer(image.manifest(), image.name());
  cache.write(fetch::plain_metadata(layer).digest, image.metadata_bytes());
  return ChunkMover(image, cache, on_progress).move(blobs);
}

void fetch_what_went(fetch::Image& image, Cache& cache, const std::vector<Descriptor>& blobs) {
  auto left = missing(cache, blobs);
  for (int round = 1; !left.empty() && round < kRounds; ++round) {
    move_all(image, cache, left, {});
    left = missing(cache, blobs);
  }
  if (left.empty() && cache.has(image.named_digest()) && cache.has(image.manifest_digest())) return;
  throw Error(ENOSPC, fmt::format("The cache could not keep all of {}. Others may be filling it, "
                                  "or its disk: try again, or ask for more with --cache-size.",
                                  image.name()));
}

}  // namespace

TransferResult pin_image(fetch::Image& image, const format::RegistryName& name,
                         const ProgressCallback& on_progress) {
  auto& cache = *image.cache();
  const auto blobs = wanted_blobs(image);
  const auto info = cache.info();
  check_fits(cache, info, name.to_string(), blobs);

  PinGuard pin(cache.pins(), {name.to_string(), image.named_digest(), image.manifest_digest()});
  make_room(cache, info, missing_on_disk(cache, blobs));
  cache.write(image.manifest_digest(), image.manifest_document());
  TransferResult result;
  static_cast<TransferCounts&>(result) = move_all(image, cache, blobs, on_progress);
  fetch_what_went(image, cache, blobs);
  pin.keep();
  result.manifest.digest = image.manifest_digest();
  result.manifest.size = image.manifest_document().size();
  return result;
}

}  // namespace puzzlefs::build
