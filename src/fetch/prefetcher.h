// What of an image is fetched before anybody asks for it.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>

#include "fetch/image.h"
#include "fetch/runtime.h"
#include "format/trace.h"

namespace puzzlefs::fetch {

struct PrefetchOptions {
  /// What a start is expected to need, in this order, in place of what the image itself marks.
  std::optional<format::Trace> trace;
  /// Without a trace: whether one that was attached to the image in its registry takes its place,
  /// if the image was not on this machine and marks nothing itself. The registry is asked once. Of
  /// such a trace no more is fetched than fills half the cache.
  bool attached = false;
  /// Whether all the rest is fetched too.
  bool everything = false;
  /// With that: at most so many bytes a second, not 0.
  std::optional<std::uint64_t> rate;
};

/// Fetches into the cache what is not there, first what a start is expected to need, then perhaps
/// all the rest, and logs what comes of it. Failures are for those to notice who read: here they
/// cost speed only. Nothing is done for a layout, or without a cache. Thread-safe.
class Prefetcher {
 public:
  /// `runtime` and `image` must outlive the object.
  Prefetcher(Runtime& runtime, Image& image, PrefetchOptions options);
  /// As stop(). Waits for what is under way, so close the image before.
  ~Prefetcher();
  Prefetcher(const Prefetcher&) = delete;
  Prefetcher& operator=(const Prefetcher&) = delete;

  /// Does not block. Call it once.
  void start();
  /// Nothing is asked for any more, and nothing logged. Does not block.
  void stop();

 private:
  class Job;
  std::shared_ptr<Job> job_;
};

}  // namespace puzzlefs::fetch
