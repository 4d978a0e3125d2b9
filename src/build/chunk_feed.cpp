#include "build/chunk_feed.h"

#include <algorithm>
#include <deque>
#include <future>
#include <memory>
#include <utility>

#include "format/chunk_codec.h"
#include "format/error.h"

namespace puzzlefs::build {
namespace {

// What is asked for ahead: 32 MiB at most, and enough for ranges of a few mebibytes.
constexpr std::size_t kChunksAhead = 32;

// Chunks asked for, in order.
class Requests {
 public:
  explicit Requests(fetch::ChunkStore& chunks) : chunks_(chunks) {}
  // Nothing may be under way any more when the store goes.
  ~Requests() {
    for (const auto& request : under_way_) request.wait();
  }
  Requests(const Requests&) = delete;
  Requests& operator=(const Requests&) = delete;

  bool has_room() const { return under_way_.size() < kChunksAhead; }
  bool empty() const { return under_way_.empty(); }

  void ask(const format::ChunkRef& piece) {
    const auto promise = std::make_shared<std::promise<fetch::Outcome<fetch::ChunkData>>>();
    under_way_.push_back(promise->get_future());
    chunks_.read(piece, [promise](fetch::Outcome<fetch::ChunkData> outcome) {
      promise->set_value(std::move(outcome));
    });
  }

  fetch::ChunkData take() {
    auto next = std::move(under_way_.front());
    under_way_.pop_front();
    auto outcome = next.get();
    return std::move(outcome.value());
  }

 private:
  fetch::ChunkStore& chunks_;
  std::deque<std::future<fetch::Outcome<fetch::ChunkData>>> under_way_;
};

Slice copy(const Bytes& chunk, BufferPool& buffers) {
  if (chunk.size() > format::kMaxChunkSize) {
    throw CorruptError("The image has a chunk of " + std::to_string(chunk.size()) +
                       " bytes. More than " + std::to_string(format::kMaxChunkSize) +
                       " are not accepted.");
  }
  const auto buffer = buffers.take();
  std::copy(chunk.begin(), chunk.end(), buffer->begin());
  return {buffer, ByteView(*buffer).first(chunk.size())};
}

}  // namespace

void feed_chunks(fetch::ChunkStore& chunks, const std::vector<format::ChunkRef>& pieces,
                 BufferPool& buffers, const std::function<void(Slice)>& take) {
  Requests requests(chunks);
  auto next = pieces.begin();
  while (next != pieces.end() || !requests.empty()) {
    while (next != pieces.end() && requests.has_room()) requests.ask(*next++);
    take(copy(*requests.take(), buffers));
  }
}

}  // namespace puzzlefs::build
