// The queue of what is wanted, and the requests that it is made into. The most urgent chunk is the
// seed of a request; what else is wanted beside it goes along. Chunks are handed on as their bytes
// arrive, so that a large request does not make its first reader wait for its last byte. Requests
// that nobody waits for are paused while somebody waits for another.
#include "fetch/pack_reader.h"

#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <utility>

#include "fetch/given_up.h"
#include "format/error.h"

namespace puzzlefs::fetch {
namespace {

/// packed-layout: about 1 MiB for a waiting reader, 8–16 MiB for prefetch, and two chunks share a
/// request when no more than 128 KiB lies between them.
constexpr std::uint64_t kReaderRange = 1 << 20;
constexpr std::uint64_t kReadAheadRange = 4 << 20;
constexpr std::uint64_t kPrefetchRange = 8 << 20;
constexpr std::uint64_t kMaxGap = 128 << 10;

/// By how much the limit of requests under way is divided before one of that priority is begun. The
/// fewer the less urgent: what is begun cannot be overtaken on its connection. Of the background
/// there is one.
constexpr std::array<std::size_t, 5> kShares{1, 2, 4, Concurrency::kMost, Concurrency::kMost};

std::uint64_t longest_range(Priority priority) {
  switch (priority) {
    case Priority::kReader:
      return kReaderRange;
    case Priority::kReadAhead:
      return kReadAheadRange;
    default:
      return kPrefetchRange;
  }
}

std::exception_ptr closed_error() {
  return std::make_exception_ptr(UnavailableError("The image is being closed."));
}

std::exception_ptr given_up_error() {
  return std::make_exception_ptr(GivenUpError());
}

format::Descriptor describe(const format::Pack& pack) {
  format::Descriptor descriptor;
  descriptor.media_type = format::kPackType;
  descriptor.digest = pack.digest;
  descriptor.size = pack.size;
  return descriptor;
}

bool has_local_packs(const BlobSource& source, const format::Metadata& metadata) {
  return metadata.pack_count() > 0 && !source.local_path(metadata.pack(0).digest).empty();
}

}  // namespace

PackReader::Hold::Hold(PackReader& owner) : owner_(owner), token_(owner.in_flight_.enter()) {
  const std::lock_guard lock(owner_.mutex_);
  ++owner_.holds_;
}

PackReader::Hold::~Hold() {
  {
    const std::lock_guard lock(owner_.mutex_);
    --owner_.holds_;
  }
  owner_.dispatch();
}

PackReader::PackReader(Runtime& runtime, BlobSource& source, const format::Metadata& metadata)
    : runtime_(runtime),
      source_(source),
      metadata_(metadata),
      is_local_(has_local_packs(source, metadata)),
      setbacks_(source.setbacks()) {
  for (std::uint32_t i = 0; i < metadata.pack_count(); ++i) static_cast<void>(metadata.pack(i));
}

PackReader::~PackReader() {
  close();
  in_flight_.wait_until_none();
}

void PackReader::raised() {
  const auto token = in_flight_.enter();
  dispatch();
}

void PackReader::get(format::ChunkIndex index, const SharedPriority& priority, Freshness freshness,
                     Completion<Bytes> done) {
  const auto token = in_flight_.enter();
  const auto chunk = metadata_.chunk(index);
  WantedChunk wanted{.index = index,
                     .chunk = chunk,
                     .pack = describe(metadata_.pack(chunk.pack)),
                     .priority = priority,
                     .freshness = freshness,
                     .done = std::move(done)};
  if (is_local_) return read_local(wanted);
  if (auto refusal = enqueue(wanted)) {
    runtime_.post([done = std::move(wanted.done), refusal] { done(refusal); });
    return;
  }
  dispatch();
}

void PackReader::given_up() {
  const auto token = in_flight_.enter();
  std::vector<WantedChunk> dropped;
  {
    const std::lock_guard lock(mutex_);
    for (auto place = find_given_up(); place != queue_.end(); place = find_given_up()) {
      for (auto& wanted : take_range(place)) {
        const auto priority = wanted.priority->load();
        const bool is_wanted = priority != Priority::kNobody && priority != Priority::kReadAhead;
        if (is_wanted) {
          queue_.emplace(wanted.index, std::move(wanted));
        } else {
          dropped.push_back(std::move(wanted));
        }
      }
    }
  }
  for (auto& wanted : dropped) {
    runtime_.post([done = std::move(wanted.done)] { done(given_up_error()); });
  }
  dispatch();
}

PackReader::Queue::iterator PackReader::find_given_up() {
  return std::find_if(queue_.begin(), queue_.end(), [](const auto& waiting) {
    return waiting.second.priority->load() == Priority::kNobody;
  });
}

void PackReader::read_local(const WantedChunk& wanted) {
  Outcome<Bytes> outcome{Bytes()};
  try {
    const auto& chunk = wanted.chunk;
    const auto file = local_pack(chunk.pack);
    Bytes stored(chunk.stored_size);
    read_at(*file, chunk.offset, stored, source_.local_path(metadata_.pack(chunk.pack).digest));
    outcome = chunk_from(chunk, std::move(stored));
  } catch (...) {
    outcome = std::current_exception();
  }
  wanted.done(std::move(outcome));
}

std::shared_ptr<const FileDescriptor> PackReader::local_pack(std::uint32_t pack) {
  const std::lock_guard lock(mutex_);
  auto& file = local_packs_[pack];
  if (file) return file;
  const auto digest = metadata_.pack(pack).digest;
  const auto path = source_.local_path(digest);
  if (path.empty()) {
    throw NotFoundError(
        fmt::format("There is no pack {} in {}.", digest.to_string(), source_.description()));
  }
  auto opened = open_regular_file(path);
  if (fs_verity_ != nullptr) fs_verity_->covers(opened, path, digest);
  return file = std::make_shared<const FileDescriptor>(std::move(opened));
}

/// Null, or why it is not; `wanted` is left alone then.
std::exception_ptr PackReader::enqueue(WantedChunk& wanted) {
  const std::lock_guard lock(mutex_);
  if (closed_) return closed_error();
  // Who gives it up later finds it in the queue.
  if (*wanted.priority == Priority::kNobody) return given_up_error();
  wanted.order = next_order_++;
  const auto index = wanted.index;
  const auto [place, is_new] = queue_.try_emplace(index, std::move(wanted));
  if (is_new) return nullptr;
  auto& waiting = place->second;  // try_emplace has not moved from `wanted` then
  waiting.done = [first = std::move(waiting.done),
                  second = std::move(wanted.done)](const Outcome<Bytes>& outcome) {
    first(outcome);
    second(outcome);
  };
  if (wanted.priority->load() < waiting.priority->load()) waiting.priority = wanted.priority;
  return nullptr;
}

void PackReader::dispatch() {
  for (;;) {
    std::shared_ptr<PackRequest> request;
    {
      const std::lock_guard lock(mutex_);
      request = next_request();
      if (request) active_.push_back(request);
      steer();
    }
    if (!request) return;
    begin(request);
  }
}

std::shared_ptr<PackRequest> PackReader::next_request() {
  if (holds_ > 0 || queue_.empty()) return nullptr;
  const auto seed = most_urgent();
  if (!may_start(seed->second.priority->load())) return nullptr;
  auto pack = seed->second.pack;
  return std::make_shared<PackRequest>(runtime_, std::move(pack), take_range(seed));
}

PackReader::Queue::iterator PackReader::most_urgent() {
  return std::min_element(queue_.begin(), queue_.end(), [](const auto& a, const auto& b) {
    const auto rank = [](const WantedChunk& wanted) {
      return std::pair(wanted.priority->load(), wanted.order);
    };
    return rank(a.second) < rank(b.second);
  });
}

bool PackReader::may_start(Priority priority) const {
  const auto share = concurrency_.limit() / kShares[static_cast<std::size_t>(priority)];
  return active_.size() < std::max<std::size_t>(share, 1);
}

/// The seed, and what is wanted beside it. What lies behind goes first: that is where readers go.
std::vector<WantedChunk> PackReader::take_range(Queue::iterator seed) {
  const auto& wanted = seed->second;
  // A source without ranges gives the whole pack, however little is asked for.
  const auto most = has_ranges_ ? longest_range(wanted.priority->load()) : wanted.pack.size;
  const auto widest_gap = has_ranges_ ? kMaxGap : wanted.pack.size;
  auto begin = wanted.chunk.offset;
  auto end = begin + wanted.chunk.stored_size;
  const auto fits = [&](const WantedChunk& other, std::uint64_t gap_begin, std::uint64_t gap_end) {
    return other.chunk.pack == wanted.chunk.pack && other.freshness == wanted.freshness &&
           gap_begin <= gap_end && gap_end - gap_begin <= widest_gap;
  };
  auto last = std::next(seed);
  for (; last != queue_.end(); ++last) {
    const auto& chunk = last->second.chunk;
    if (!fits(last->second, end, chunk.offset)) break;
    if (chunk.offset + chunk.stored_size - begin > most) break;
    end = chunk.offset + chunk.stored_size;
  }
  auto first = seed;
  while (first != queue_.begin()) {
    const auto& before = std::prev(first)->second;
    const auto before_end = before.chunk.offset + before.chunk.stored_size;
    if (!fits(before, before_end, begin) || end - before.chunk.offset > most) break;
    begin = before.chunk.offset;
    --first;
  }
  std::vector<WantedChunk> taken;
  for (auto place = first; place != last;) {
    taken.push_back(std::move(place->second));
    place = queue_.erase(place);
  }
  return taken;
}

void PackReader::begin(const std::shared_ptr<PackRequest>& request) {
  const auto range = request->range();
  const auto receive = [this, request, range](std::uint64_t offset, ByteView bytes) {
    if (offset < range.offset) has_ranges_ = false;
    received_.fetch_add(bytes.size(), std::memory_order_relaxed);
    request->receive(offset, bytes);
  };
  const auto token = std::make_shared<InFlight::Token>(in_flight_.enter());
  auto done = [this, request, token](const Outcome<Done>& outcome) {
    if (const auto error = error_of(*request, outcome)) request->fail(error);
    finish(request);
  };
  std::shared_ptr<RangeRead> read;
  try {
    read = source_.read_range(request->pack(), range, request->freshness(), receive, done);
  } catch (...) {  // it could not even begin, so it has not answered
    request->fail(std::current_exception());
    return finish(request);
  }
  const std::lock_guard lock(mutex_);
  request->read = std::move(read);
  steer();
}

/// What those get whose chunks have not come; null if all have.
std::exception_ptr PackReader::error_of(const PackRequest& request, const Outcome<Done>& outcome) {
  if (request.is_complete()) return nullptr;
  {
    const std::lock_guard lock(mutex_);
    if (request.is_cancelled) return given_up_error();
  }
  if (!outcome.ok()) return outcome.error();
  return std::make_exception_ptr(
      CorruptError(fmt::format("{} sent less than was asked for of the pack {}.",
                               source_.description(), request.pack().digest.to_string())));
}

void PackReader::finish(const std::shared_ptr<PackRequest>& request) {
  {
    const std::lock_guard lock(mutex_);
    count_end();
    std::erase(active_, request);
    request->read.reset();
  }
  dispatch();
}

/// Also of setbacks of others: those that were answered since the last look.
void PackReader::count_end() {
  const auto setbacks = source_.setbacks();
  if (std::exchange(setbacks_, setbacks) != setbacks) concurrency_.set_back(active_.size());
  concurrency_.ended(std::chrono::steady_clock::now(), received_.load(std::memory_order_relaxed),
                     active_.size(), !queue_.empty());
}

void PackReader::steer() {
  cancel_given_up();
  pause_all_but_the_most_urgent();
}

void PackReader::cancel_given_up() {
  for (const auto& request : active_) {
    if (!request->read || request->is_cancelled || !request->is_given_up()) continue;
    request->is_cancelled = true;
    request->read->cancel();
  }
}

/// Only a reader makes others wait: there is nothing to gain among those that nobody waits for.
void PackReader::pause_all_but_the_most_urgent() {
  const bool somebody_waits = std::any_of(active_.begin(), active_.end(), [](const auto& request) {
    return request->priority() == Priority::kReader;
  });
  for (const auto& request : active_) {
    const bool pause = somebody_waits && request->priority() > Priority::kReadAhead;
    if (!request->read || pause == request->is_paused) continue;
    request->is_paused = pause;
    request->read->set_paused(pause);
    concurrency_.disturbed();
  }
}

void PackReader::close() {
  Queue dropped;
  {
    const std::lock_guard lock(mutex_);
    closed_ = true;
    dropped.swap(queue_);
  }
  for (auto& [index, wanted] : dropped) {
    runtime_.post([done = std::move(wanted.done)] { done(closed_error()); });
  }
}

}  // namespace puzzlefs::fetch
