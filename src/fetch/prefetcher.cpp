// One job at a time: the chunks that a start needs, then portions of the rest. Between two steps
// only a task or a timer holds it, which finds out that it was stopped when its time comes.
#include "fetch/prefetcher.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <mutex>
#include <utility>
#include <vector>

#include "fetch/attached_trace.h"
#include "fetch/background_plan.h"
#include "fetch/cache_eviction.h"
#include "fetch/hot_chunks.h"
#include "fetch/in_flight.h"
#include "format/error.h"

namespace puzzlefs::fetch {
namespace {

using Chunk = BackgroundPlan::Chunk;
using Clock = std::chrono::steady_clock;

bool is_packed(const Image& image) {
  return image.metadata().pack_count() > 0;
}

/// Gets chunks that are blobs, some at a time.
class BlobJob : public std::enable_shared_from_this<BlobJob> {
 public:
  BlobJob(BlobStore& store, std::vector<format::Descriptor> blobs, InFlight::Token token,
          Completion<std::size_t> done)
      : token_(std::move(token)),
        store_(store),
        blobs_(std::move(blobs)),
        done_(std::move(done)),
        missing_(blobs_.size()) {}

  void start(std::size_t at_once) {
    if (blobs_.empty()) return done_(std::size_t{0});
    for (std::size_t i = 0; i < std::min(at_once, blobs_.size()); ++i) read_next();
  }

 private:
  void read_next() {
    const auto place = next_++;
    if (place >= blobs_.size()) return;
    store_.read(
        blobs_[place],
        [self = shared_from_this()](const Outcome<BlobData>& data) { self->finish(data.ok()); },
        Answer::kWhenKept);
  }

  void finish(bool ok) {
    if (!ok) ++failed_;
    if (--missing_ == 0) return done_(failed_.load());
    read_next();
  }

  const InFlight::Token token_;
  BlobStore& store_;
  const std::vector<format::Descriptor> blobs_;
  const Completion<std::size_t> done_;
  std::atomic<std::size_t> next_ = 0;
  std::atomic<std::size_t> missing_;
  std::atomic<std::size_t> failed_ = 0;
};

}  // namespace

class Prefetcher::Job : public std::enable_shared_from_this<Job> {
 public:
  Job(Runtime& runtime, Image& image, PrefetchOptions options)
      : runtime_(runtime), image_(image), options_(std::move(options)) {}

  void post(void (Job::*step)()) { runtime_.post(task(step)); }

  void begin() {
    if (image_.cache() == nullptr || !image_.cache()->is_usable()) return;
    if (!wants_attached_trace()) return fetch_hot();
    find_attached_trace(*image_.extras(), image_.manifest_digest(), without(&Job::read_trace));
  }

  void stop() {
    const std::lock_guard lock(mutex_);
    stopped_ = true;
  }
  void wait() { in_flight_.wait_until_none(); }

 private:
  /// Runs a step unless the job was stopped; what a malformed image makes it throw ends the job.
  std::function<void()> task(void (Job::*step)()) {
    return [self = shared_from_this(), step] {
      const auto token = self->enter();
      if (!token) return;
      try {
        (self.get()->*step)();
      } catch (const std::exception& error) {
        spdlog::warn("No more of {} is fetched ahead: {}", self->image_.name(), error.what());
        self->image_.end_head_start();
      }
    };
  }

  /// Null if the job was stopped.
  InFlight::Token enter() {
    const std::lock_guard lock(mutex_);
    return stopped_ ? nullptr : in_flight_.enter();
  }

  /// Where the metadata was here, most of what a start needs is here too, and nothing is asked.
  bool wants_attached_trace() const {
    return options_.attached && !options_.trace && image_.extras() != nullptr &&
           !image_.was_here() && hot_places(image_.metadata()).empty();
  }

  /// Goes on with `next`, unless the job was stopped meanwhile, or without what could not be had.
  template <class T>
  Completion<T> without(void (Job::*next)(T&)) {
    const auto token = std::make_shared<InFlight::Token>(in_flight_.enter());
    return [self = shared_from_this(), token, next](Outcome<T> outcome) {
      const auto running = self->enter();
      if (!running) return;
      try {
        (self.get()->*next)(outcome.value());
      } catch (const std::exception& error) {
        spdlog::info("{} starts without a trace that may be attached to it: {}",
                     self->image_.name(), error.what());
        self->post(&Job::fetch_hot);
      }
    };
  }

  void read_trace(std::optional<AttachedTrace>& found) {
    if (!found) return post(&Job::fetch_hot);
    read_attached_trace(runtime_, *image_.extras(), found->blob, without(&Job::use_trace));
  }

  void use_trace(format::Trace& trace) {
    spdlog::info("A trace of {} chunks is attached to {}.", trace.chunks.size(), image_.name());
    most_hot_ = image_.cache()->room().limit / 2;
    options_.trace = std::move(trace);
    post(&Job::fetch_hot);
  }

  void fetch_hot() {
    if (options_.trace || options_.everything) {
      chunks_ = chunks_of(image_.metadata(), image_.manifest(), image_.name());
    }
    auto places =
        options_.trace ? places_of(*options_.trace, chunks_) : hot_places(image_.metadata());
    if (most_hot_) shorten(places, *most_hot_);
    if (places.empty()) return fetch_rest();
    const auto count = places.size();
    fetch(places, Priority::kPrefetch, [this, count](std::size_t failed) {
      spdlog::info("{} of the {} chunks that a start of {} is expected to need are here.",
                   count - failed, count, image_.name());
      post(&Job::fetch_rest);
    });
  }

  /// To those that take up so much of the disk.
  void shorten(std::vector<std::size_t>& places, std::uint64_t most) const {
    const auto is_beyond = [&](std::size_t place) {
      const auto size = disk_size(chunks_[place].size);
      if (size > most) return true;
      most -= size;
      return false;
    };
    places.erase(std::find_if(places.begin(), places.end(), is_beyond), places.end());
  }

  void fetch_rest() {
    image_.end_head_start();
    if (!options_.everything) return clear();
    plan_.emplace(chunks_, options_.rate);
    fetch_portion();
  }

  void fetch_portion() {
    const auto portion = plan_->next(
        [this](const format::Digest& chunk) { return image_.blobs().is_cached(chunk); });
    if (portion.chunks.empty()) return log_end();
    if (!image_.cache()->fits(portion.disk_size)) {
      spdlog::warn(
          "The cache has no room for the rest of {}, which is fetched when it is read only. "
          "\"puzzlefs cache info\" shows its limit, --cache-size sets it.",
          image_.name());
      return clear();
    }
    begun_ = Clock::now();
    fetch(portion.chunks, Priority::kBackground, [this](std::size_t failed) {
      const auto pause = plan_->finished(failed, Clock::now() - begun_);
      if (failed > 0) {
        spdlog::debug("{} chunks could not be had; the next portion comes after {} ms.", failed,
                      pause.count());
      }
      if (pause.count() == 0) return post(&Job::fetch_portion);
      runtime_.post_after(pause, task(&Job::fetch_portion));
    });
  }

  void log_end() {
    if (plan_->missing() == 0) {
      spdlog::info("All of {} is in the cache.", image_.name());
    } else {
      spdlog::warn("{} of the {} chunks of {} could not be had or kept; the rest is in the cache.",
                   plan_->missing(), chunks_.size(), image_.name());
    }
    clear();
  }

  /// The mount may go on for months.
  void clear() {
    plan_.reset();
    chunks_ = {};
    options_.trace.reset();
  }

  /// `next` gets the number of those that did not come, unless the job was stopped meanwhile.
  void fetch(const std::vector<std::size_t>& places, Priority priority,
             std::function<void(std::size_t)> next) {
    auto done = [self = shared_from_this(), next = std::move(next)](Outcome<std::size_t> failed) {
      if (const auto token = self->enter()) next(failed.value());
    };
    if (!is_packed(image_)) return fetch_blobs(places, priority, std::move(done));
    std::vector<format::ChunkIndex> indexes;
    indexes.reserve(places.size());
    for (const auto place : places) {
      indexes.push_back(format::ChunkIndex{static_cast<std::uint32_t>(place)});
    }
    image_.chunks().prefetch(std::move(indexes), priority, std::move(done));
  }

  /// Of an image whose chunks have a request each. So few at once leave room for readers.
  void fetch_blobs(const std::vector<std::size_t>& places, Priority priority,
                   Completion<std::size_t> done) {
    constexpr std::size_t kAtOnceToStart = 8;
    constexpr std::size_t kAtOnceInBackground = 2;
    std::vector<format::Descriptor> blobs;
    for (const auto place : places) {
      const auto& chunk = chunks_[place];
      if (image_.blobs().is_cached(chunk.digest)) continue;
      format::Descriptor blob;
      blob.media_type = format::kFiledataType;
      blob.digest = chunk.digest;
      blob.size = chunk.stored_size;
      blobs.push_back(std::move(blob));
    }
    const auto at_once = priority == Priority::kBackground ? kAtOnceInBackground : kAtOnceToStart;
    std::make_shared<BlobJob>(image_.blobs(), std::move(blobs), in_flight_.enter(), std::move(done))
        ->start(at_once);
  }

  Runtime& runtime_;
  Image& image_;
  PrefetchOptions options_;
  // Used by one step at a time:
  std::vector<Chunk> chunks_;  // what needs it are a trace, the rest and an image without packs
  std::optional<BackgroundPlan> plan_;
  std::optional<std::uint64_t> most_hot_;  // bytes of what somebody else chose
  Clock::time_point begun_;

  std::mutex mutex_;
  bool stopped_ = false;  // guarded by mutex_
  InFlight in_flight_;
};

Prefetcher::Prefetcher(Runtime& runtime, Image& image, PrefetchOptions options)
    : job_(std::make_shared<Job>(runtime, image, std::move(options))) {}

Prefetcher::~Prefetcher() {
  stop();
  job_->wait();
}

void Prefetcher::start() {
  job_->post(&Job::begin);
}

void Prefetcher::stop() {
  job_->stop();
}

}  // namespace puzzlefs::fetch
