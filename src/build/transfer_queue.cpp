// Moving the blobs of an image, several at a time. The calling thread starts all and counts all;
// completions only leave it a message.
#include "build/transfer_queue.h"

#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <unordered_set>
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

void count(TransferResult& result, std::uint64_t size, Movement movement) {
  const bool moved = movement == Movement::kMoved;
  ++(moved ? result.moved_blobs : result.present_blobs);
  (moved ? result.moved_bytes : result.present_bytes) += size;
}

TransferProgress initial_progress(const std::vector<format::Descriptor>& blobs) {
  TransferProgress progress;
  progress.blobs_total = blobs.size();
  for (const auto& blob : blobs) progress.bytes_total += blob.size;
  return progress;
}

}  // namespace

std::vector<format::Descriptor> distinct_blobs(const format::Manifest& manifest) {
  std::vector<format::Descriptor> blobs;
  std::unordered_set<format::Digest> seen;
  for (const auto& layer : manifest.layers) {
    if (seen.insert(layer.digest).second) blobs.push_back(layer);
  }
  if (seen.insert(manifest.config.digest).second) blobs.push_back(manifest.config);
  return blobs;
}

TransferResult move_blobs(const std::vector<format::Descriptor>& blobs, const StartMove& start,
                          const ProgressCallback& on_progress) {
  const auto mailbox = std::make_shared<Mailbox>();
  TransferResult result;
  TransferProgress progress = initial_progress(blobs);
  std::exception_ptr failure;
  std::size_t under_way = 0;
  auto next = blobs.begin();
  const auto start_next = [&] {
    const auto& blob = *next++;
    ++under_way;
    const auto done = [mailbox, &blob](fetch::Outcome<Movement> outcome) {
      mailbox->put({&blob, std::move(outcome)});
    };
    try {
      start(blob, done);
    } catch (const std::exception&) {
      done(std::current_exception());
    }
  };
  for (;;) {
    while (!failure && next != blobs.end() && under_way < kInFlight) start_next();
    if (under_way == 0) break;
    auto message = mailbox->take();
    --under_way;
    try {
      count(result, message.blob->size, message.outcome.value());
      ++progress.blobs_done;
      progress.bytes_done += message.blob->size;
      if (on_progress) on_progress(progress);
    } catch (const std::exception&) {
      if (!failure) failure = std::current_exception();
    }
  }
  if (failure) std::rethrow_exception(failure);
  return result;
}

}  // namespace puzzlefs::build
