// A source of blobs whose ranged reads go as a test says.
#pragma once

#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <string_view>
#include <utility>
#include <vector>

#include "fetch/blob_source.h"
#include "format/error.h"
#include "memory_source.h"

namespace puzzlefs::fetch {

/// Lets a test give the bytes of each range when it wants, and as many of them.
class ManualSource : public MemorySource {
 public:
  struct Read : RangeRead {
    ByteRange range;
    RangeReceiver on_bytes;
    Completion<Done> done_;
    std::atomic<bool> paused = false;
    std::atomic<bool> cancelled = false;

    void set_paused(bool value) override { paused = value; }
    void cancel() override { cancelled = true; }
    void done(Outcome<Done> outcome) {
      on_bytes = {};
      std::exchange(done_, {})(std::move(outcome));
    }
    /// Fails what is still under way.
    void end() {
      if (done_) done(std::make_exception_ptr(UnavailableError("It is over.")));
    }
  };

  std::shared_ptr<RangeRead> read_range(const format::Descriptor& /*blob*/, ByteRange range,
                                        Freshness /*freshness*/, RangeReceiver on_bytes,
                                        Completion<Done> done) override {
    auto read = std::make_shared<Read>();
    read->range = range;
    read->on_bytes = std::move(on_bytes);
    read->done_ = std::move(done);
    const std::lock_guard lock(mutex_);
    reads.push_back(read);
    changed_.notify_all();
    return read;
  }
  /// Waits for the read of that number, from 0, to be asked for by another thread. No more may be
  /// asked for just then.
  Read& wait_for_read(std::size_t number) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return reads.size() > number; });
    return *reads[number];
  }
  /// Fails all that is under way, also while others ask.
  void end_all() {
    for (const auto& read : all()) read->end();
  }
  /// Gives all that is under way its part of the only blob.
  void answer_all(std::string_view blob) {
    for (const auto& read : all()) {
      if (!read->done_) continue;
      if (read->cancelled) {
        read->end();
        continue;
      }
      read->on_bytes(0, as_bytes(blob));
      read->done(Done{});
    }
  }

  std::uint64_t setbacks() const override { return setbacks_; }

  std::vector<std::shared_ptr<Read>> reads;
  std::atomic<std::uint64_t> setbacks_ = 0;

 private:
  std::vector<std::shared_ptr<Read>> all() {
    const std::lock_guard lock(mutex_);
    return reads;
  }

  std::mutex mutex_;  // while others may ask
  std::condition_variable changed_;
};

}  // namespace puzzlefs::fetch
