// One read under way, and those who follow it.
#include "fetch/head_start.h"

#include <algorithm>
#include <charconv>
#include <list>
#include <mutex>
#include <system_error>
#include <utility>

namespace puzzlefs::fetch {
namespace {

std::uint64_t hot_size_of(const format::Descriptor& pack) {
  const auto found = pack.annotations.find(std::string(format::kHotSizeAnnotation));
  if (found == pack.annotations.end()) return 0;
  const auto& text = found->second;
  std::uint64_t size = 0;
  const auto [end, failure] = std::from_chars(text.data(), text.data() + text.size(), size);
  const bool is_number = failure == std::errc() && end == text.data() + text.size();
  return is_number && size <= std::min(pack.size, HeadStart::kLargest) ? size : 0;
}

}  // namespace

std::optional<HotRange> hot_range_of(const format::Manifest& manifest) {
  for (const auto& layer : manifest.layers) {
    if (layer.media_type != format::kPackType) continue;
    if (const auto size = hot_size_of(layer); size > 0) return HotRange{layer, size};
  }
  return std::nullopt;
}

class HeadStart::Stream : public std::enable_shared_from_this<Stream> {
 public:
  Stream(Runtime& runtime, BlobSource& source, HotRange range)
      : runtime_(runtime), source_(source), range_(std::move(range)) {}

  void start() {
    auto read = source_.read_range(
        range_.pack, {0, range_.size}, Freshness::kAny,
        [self = shared_from_this()](std::uint64_t offset, ByteView bytes) {
          self->take(offset, bytes);
        },
        [self = shared_from_this()](const Outcome<Done>&) { self->end(); });
    const std::lock_guard lock(mutex_);
    if (!has_ended_) read_ = std::move(read);
  }

  void stop() {
    if (const auto read = current_read()) read->cancel();
  }

  void release() {
    {
      const std::lock_guard lock(mutex_);
      is_released_ = true;
      if (!followers_.empty()) return;
      bytes_ = {};
    }
    stop();  // what still comes is for nobody
  }

  /// False if this range is none of it.
  bool follow(const format::Descriptor& blob, ByteRange range, RangeReceiver& on_bytes,
              Completion<Done>& done) {
    const std::lock_guard lock(mutex_);
    if (blob.digest != range_.pack.digest || range.size > range_.size ||
        range.offset > range_.size - range.size || is_released_) {
      return false;
    }
    if (has_ended_ && bytes_.size() < range.end()) return false;
    followers_.push_back({range, range.offset, std::move(on_bytes), std::move(done)});
    if (give(followers_.back())) followers_.pop_back();
    return true;
  }

 private:
  struct Follower {
    ByteRange range;
    std::uint64_t next = 0;  // what has not been given yet
    RangeReceiver on_bytes;
    Completion<Done> done;
  };

  std::shared_ptr<RangeRead> current_read() {
    const std::lock_guard lock(mutex_);
    return read_;
  }

  void take(std::uint64_t offset, ByteView bytes) {
    if (offset >= range_.size) return stop();  // the server gives the whole pack
    const std::lock_guard lock(mutex_);
    if (offset != received_) return;
    const auto size = std::min<std::uint64_t>(bytes.size(), range_.size - offset);
    received_ += size;
    if (is_released_ && followers_.empty()) return;
    if (bytes_.empty()) bytes_.reserve(range_.size);
    bytes_.insert(bytes_.end(), bytes.begin(), bytes.begin() + static_cast<long>(size));
    std::erase_if(followers_, [this](Follower& follower) { return give(follower); });
    if (is_released_ && followers_.empty()) bytes_ = {};
  }

  /// Hands on what is here, with mutex_ held. Whether that was all.
  bool give(Follower& follower) {
    const auto end = std::min<std::uint64_t>(bytes_.size(), follower.range.end());
    if (follower.next < end) {
      follower.on_bytes(follower.next,
                        ByteView(bytes_).subspan(follower.next, end - follower.next));
      follower.next = end;
    }
    if (follower.next < follower.range.end()) return false;
    runtime_.post([done = std::move(follower.done)] { done(Done{}); });
    return true;
  }

  /// Who has not got all gets the rest as if there were no such thing as this.
  void end() {
    std::list<Follower> rest;
    {
      const std::lock_guard lock(mutex_);
      has_ended_ = true;
      read_.reset();
      rest.swap(followers_);
    }
    for (auto& follower : rest) {
      source_.read_range(range_.pack, {follower.next, follower.range.end() - follower.next},
                         Freshness::kAny, std::move(follower.on_bytes), std::move(follower.done));
    }
  }

  Runtime& runtime_;
  BlobSource& source_;
  const HotRange range_;

  std::mutex mutex_;  // guards all below
  std::shared_ptr<RangeRead> read_;
  Bytes bytes_;  // from the first on
  std::uint64_t received_ = 0;
  std::list<Follower> followers_;
  bool has_ended_ = false;
  bool is_released_ = false;
};

HeadStart::HeadStart(Runtime& runtime, BlobSource& source, const HotRange& range)
    : source_(source), stream_(std::make_shared<Stream>(runtime, source, range)) {
  stream_->start();
}

HeadStart::~HeadStart() {
  stream_->stop();
}

void HeadStart::release() {
  stream_->release();
}

std::shared_ptr<RangeRead> HeadStart::read_range(const format::Descriptor& blob, ByteRange range,
                                                 Freshness freshness, RangeReceiver on_bytes,
                                                 Completion<Done> done) {
  if (freshness == Freshness::kAny && stream_->follow(blob, range, on_bytes, done)) {
    // It cannot be held back: others follow it, and it is what a start waits for.
    return std::make_shared<RangeRead>();
  }
  return source_.read_range(blob, range, freshness, std::move(on_bytes), std::move(done));
}

}  // namespace puzzlefs::fetch
