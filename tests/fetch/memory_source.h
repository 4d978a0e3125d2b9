// A source of blobs that counts what is asked of it and answers as a test says.
#pragma once

#include <atomic>
#include <deque>
#include <exception>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "fetch/blob_source.h"
#include "format/error.h"

namespace puzzlefs::fetch {

/// Answers on the thread that asks, unless held back.
class MemorySource : public BlobSource {
 public:
  /// Adds a blob and gives its descriptor.
  format::Descriptor add(std::string_view content,
                         std::string_view media_type = format::kFiledataType) {
    format::Descriptor blob;
    blob.media_type = media_type;
    blob.digest = format::sha256(as_bytes(content));
    blob.size = content.size();
    const std::lock_guard lock(mutex_);
    blobs_[blob.digest] = content;
    return blob;
  }
  /// The next answer, whatever is asked for.
  void answer_next(Outcome<Bytes> outcome) {
    const std::lock_guard lock(mutex_);
    scripted_.push_back(std::move(outcome));
  }
  /// No answer is given until release().
  void hold() {
    const std::lock_guard lock(mutex_);
    holding_ = true;
  }
  void release() {
    std::vector<std::pair<Completion<Bytes>, Outcome<Bytes>>> held;
    {
      const std::lock_guard lock(mutex_);
      holding_ = false;
      held.swap(held_);
    }
    for (auto& [done, outcome] : held) done(std::move(outcome));
  }
  /// How each read so far was asked for.
  std::vector<Freshness> reads() const {
    const std::lock_guard lock(mutex_);
    return reads_;
  }

  void read(const format::Descriptor& blob, Freshness freshness, Completion<Bytes> done) override {
    Outcome<Bytes> outcome{Bytes()};
    {
      const std::lock_guard lock(mutex_);
      reads_.push_back(freshness);
      outcome = next(blob);
      if (holding_) return held_.emplace_back(std::move(done), std::move(outcome)), void();
    }
    done(std::move(outcome));
  }
  /// Each range so far that was asked for, of whichever blob.
  std::vector<ByteRange> ranges() const {
    const std::lock_guard lock(mutex_);
    return ranges_;
  }

  /// Gives what read() would give of it, at once; the handle does nothing.
  std::shared_ptr<RangeRead> read_range(const format::Descriptor& blob, ByteRange range,
                                        Freshness freshness, RangeReceiver on_bytes,
                                        Completion<Done> done) override {
    {
      const std::lock_guard lock(mutex_);
      ranges_.push_back(range);
    }
    read(blob, freshness,
         [range, on_bytes = std::move(on_bytes), done = std::move(done)](Outcome<Bytes> outcome) {
           try {
             const ByteView bytes(outcome.value());
             if (bytes.size() < range.end()) throw CorruptError("The blob is shorter.");
             on_bytes(range.offset, bytes.subspan(range.offset, range.size));
             done(Done{});
           } catch (const std::exception&) {
             done(std::current_exception());
           }
         });
    return std::make_shared<RangeRead>();
  }
  std::string description() const override { return "the test's memory"; }

 private:
  Outcome<Bytes> next(const format::Descriptor& blob) {
    if (!scripted_.empty()) {
      auto outcome = std::move(scripted_.front());
      scripted_.pop_front();
      return outcome;
    }
    const auto found = blobs_.find(blob.digest);
    if (found == blobs_.end()) return std::make_exception_ptr(NotFoundError("There is no blob."));
    const auto content = as_bytes(found->second);
    return Bytes(content.begin(), content.end());
  }

  mutable std::mutex mutex_;  // guards all below
  std::map<format::Digest, std::string> blobs_;
  std::deque<Outcome<Bytes>> scripted_;
  bool holding_ = false;
  std::vector<std::pair<Completion<Bytes>, Outcome<Bytes>>> held_;
  std::vector<Freshness> reads_;
  std::vector<ByteRange> ranges_;
};

}  // namespace puzzlefs::fetch
