// Moving the blobs of an image, several at a time. The calling thread starts all and counts all;
// completions only leave it a message.
#include "build/transfer_queue.h"

#include <algorithm>
#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <utility>

namespace puzzlefs::build {
namespace {

// As many as an HTTP client has connections to one host.
constexpr std::size_t kInFlight = 8;

// What completions tell the thread that started them.
class Mailbox {
 public:
  struct Message {
    const format::Descriptor* blob;
    fetch::Outcome<Movement> outcome;
  };

  void put(Message message) {
    {
      const std::lock_guard lock(mutex_);
      messages_.push_back(std::move(message));
    }
    arrived_.notify_one();
  }

  Message take() {
    std::unique_lock lock(mutex_);
    arrived_.wait(lock, [this] { return !messages_.empty(); });
    Message message = std::move(messages_.front());
    messages_.pop_front();
    return message;
  }

 private:
  std::mutex mutex_;
  std::condition_variable arrived_;
  std::deque<Message> messages_;
};

void count(TransferCounts& counts, std::uint64_t size, Movement movement) {
  switch (movement) {
    case Movement::kMoved:
      ++counts.moved_blobs;
      counts.moved_bytes += size;
      break;
    case Movement::kMounted:
      ++counts.mounted_blobs;
      counts.mounted_bytes += size;
      break;
    case Movement::kPresent:
      ++counts.present_blobs;
      counts.present_bytes += size;
      break;
  }
}

TransferProgress initial_progress(const std::vector<format::Descriptor>& blobs) {
  TransferProgress progress;
  progress.blobs_total = blobs.size();
  for (const auto& blob : blobs) progress.bytes_total += blob.size;
  return progress;
}

// Starts moves, and takes account of them.
class Queue {
 public:
  Queue(const std::vector<format::Descriptor>& blobs, std::uint64_t most_bytes,
        const StartMove& start)
      : blobs_(blobs), most_bytes_(most_bytes), start_(start), next_(blobs.begin()) {}

  bool idle() const { return under_way_ == 0; }

  void start_what_may() {
    while (next_ != blobs_.end() && under_way_ < kInFlight &&
           (under_way_ == 0 || next_->size <= most_bytes_ - bytes_)) {
      start_next();
    }
  }

  Mailbox::Message take() {
    auto message = mailbox_->take();
    --under_way_;
    bytes_ -= std::min(message.blob->size, most_bytes_);
    return message;
  }

 private:
  void start_next() {
    const auto& blob = *next_++;
    ++under_way_;
    bytes_ += std::min(blob.size, most_bytes_);
    const auto done = [mailbox = mailbox_, &blob](fetch::Outcome<Movement> outcome) {
      mailbox->put({&blob, std::move(outcome)});
    };
    try {
      start_(blob, done);
    } catch (const std::exception&) {
      done(std::current_exception());
    }
  }

  const std::vector<format::Descriptor>& blobs_;
  const std::uint64_t most_bytes_;
  const StartMove& start_;
  std::vector<format::Descriptor>::const_iterator next_;
  const std::shared_ptr<Mailbox> mailbox_ = std::make_shared<Mailbox>();
  std::size_t under_way_ = 0;
  std::uint64_t bytes_ = 0;  // of what is under way, never more than most_bytes_
};

}  // namespace

TransferCounts move_blobs(const std::vector<format::Descriptor>& blobs, std::uint64_t most_bytes,
                          const StartMove& start, const ProgressCallback& on_progress) {
  Queue queue(blobs, most_bytes, start);
  TransferProgress progress = initial_progress(blobs);
  std::exception_ptr failure;
  for (;;) {
    if (!failure) queue.start_what_may();
    if (queue.idle()) break;
    auto message = queue.take();
    try {
      count(progress, message.blob->size, message.outcome.value());
      ++progress.blobs_done;
      progress.bytes_done += message.blob->size;
      if (on_progress) on_progress(progress);
    } catch (const std::exception&) {
      if (!failure) failure = std::current_exception();
    }
  }
  if (failure) std::rethrow_exception(failure);
  return progress;
}

}  // namespace puzzlefs::build
