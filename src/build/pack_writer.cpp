// Chunks go through three stages: tasks_ wait to be hashed and compressed, ready_ for their turn,
// and whichever thread finds the next one there appends it and those behind it. What the base has
// counts as stored until all is known that is live; only then is decided which of its packs stay.
#include "build/pack_writer.h"

#include <algorithm>
#include <utility>

#include "format/error.h"

namespace puzzlefs::build {

// Of one thread, made when one of its level is needed first: a context of a high level is large.
class PackWriter::Compressors {
 public:
  explicit Compressors(const PackOptions& options) : options_(options) {}

  std::optional<Bytes> compress(const Task& task) {
    const int level = task.is_hot ? *options_.hot_level : options_.level;
    if (level == 0) return std::nullopt;
    auto& compressor = task.is_hot ? hot_ : ordinary_;
    if (!compressor) compressor.emplace(level);
    return compressor->compress(task.chunk.bytes);
  }

 private:
  const PackOptions& options_;
  std::optional<format::FrameCompressor> hot_;
  std::optional<format::FrameCompressor> ordinary_;
};

PackWriter::PackWriter(const fetch::Layout& layout, const PackOptions& options,
                       std::optional<PackBase> base)
    : layout_(layout),
      options_(options),
      base_(std::move(base)),
      base_packs_(base_ ? base_->metadata.pack_count() : 0),
      is_hot_(options.hot_level.has_value()) {
  take_base();
  threads_.reserve(options.threads);
  for (unsigned count = 0; count < options.threads; ++count) {
    threads_.emplace_back([this](const std::stop_token& stop) { work(stop); });
  }
}

void PackWriter::take_base() {
  const std::uint32_t count = base_ ? base_->metadata.chunk_count() : 0;
  distinct_.reserve(count);
  known_.reserve(count);
  for (std::uint32_t index = 0; index < count; ++index) {
    distinct_.push_back(base_->metadata.chunk(format::ChunkIndex{index}));
    known_.try_emplace(distinct_.back().digest, index);
  }
  is_live_.resize(count);
}

void PackWriter::add(Slice chunk) {
  {
    const std::lock_guard lock(mutex_);
    if (error_) std::rethrow_exception(error_);
    tasks_.push_back({added_++, std::move(chunk), is_hot_});
  }
  changed_.notify_one();
}

void PackWriter::end_hot() {
  const std::lock_guard lock(mutex_);
  hot_end_ = added_;
  is_hot_ = false;
}

PackedStream PackWriter::finish() {
  {
    const std::lock_guard lock(mutex_);
    finishing_ = true;
  }
  changed_.notify_all();
  for (std::jthread& thread : threads_) thread.join();
  if (error_) std::rethrow_exception(error_);

  if (hot_end_) finish_hot();
  for (const format::ChunkIndex chunk : kept_chunks_) is_live_[format::to_integer(chunk)] = true;
  PackedStream result;
  const std::vector<bool> kept = choose_base_packs();
  replace(kept, result);
  finish_pack();
  list_packs(kept, result);
  list_chunks(kept, result);
  return result;
}

void PackWriter::work(const std::stop_token& stop) {
  try {
    Compressors compressors(options_);
    for (auto tasks = next_tasks(stop); !tasks.empty(); tasks = next_tasks(stop))
      prepare(std::move(tasks), compressors);
  } catch (...) {
    fail(std::current_exception());
  }
}

// Two, to be hashed at once, where the other threads still find one each. None at the end.
std::vector<PackWriter::Task> PackWriter::next_tasks(const std::stop_token& stop) {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, stop, [this] { return !tasks_.empty() || finishing_ || error_; });
  std::vector<Task> next;
  if (stop.stop_requested()) return next;
  const std::size_t count =
      std::min<std::size_t>(tasks_.size(), tasks_.size() > options_.threads ? 2 : 1);
  for (std::size_t i = 0; i < count; ++i) {
    next.push_back(std::move(tasks_.front()));
    tasks_.pop_front();
  }
  return next;
}

void PackWriter::prepare(std::vector<Task> tasks, Compressors& compressors) {
  const ByteView second = tasks.size() > 1 ? tasks[1].chunk.bytes : ByteView();
  const auto digests = format::sha256_of_both(tasks.front().chunk.bytes, second);
  for (std::size_t i = 0; i < tasks.size(); ++i) {
    const std::size_t index = tasks[i].index;
    append_in_order(index, prepare(std::move(tasks[i]), digests[i], compressors));
  }
}

PackWriter::Ready PackWriter::prepare(Task task, const format::Digest& digest,
                                      Compressors& compressors) {
  Ready ready;
  ready.digest = digest;
  // Of equal chunks that are under way at the same time each is compressed, and the first stored.
  if (!is_known(ready.digest)) ready.frame = compressors.compress(task);
  ready.chunk = std::move(task.chunk);
  return ready;
}

bool PackWriter::is_known(const format::Digest& digest) {
  const std::lock_guard lock(mutex_);
  return known_.contains(digest);
}

void PackWriter::append_in_order(std::size_t index, Ready ready) {
  std::unique_lock lock(mutex_);
  if (error_) return;
  ready_.emplace(index, std::move(ready));
  if (appending_) return;
  appending_ = true;
  // It stays set if this throws: nobody goes on then.
  while (!ready_.empty() && ready_.begin()->first == stream_.size()) {
    const auto next = ready_.extract(ready_.begin());
    const bool ends_hot = hot_end_ == next.key();
    if (ends_hot) hot_end_.reset();
    lock.unlock();
    if (ends_hot) finish_hot();
    append(next.mapped());
    lock.lock();
  }
  appending_ = false;
}

void PackWriter::append(const Ready& ready) {
  const ByteView plain = ready.chunk.bytes;
  // A base that lies about a size must not lead to files laid out wrongly.
  if (const auto found = known_.find(ready.digest);
      found != known_.end() && distinct_[found->second].size == plain.size()) {
    is_live_[found->second] = true;
    stream_.push_back(found->second);
    return;
  }
  const std::size_t place = distinct_.size();
  distinct_.push_back(
      store(ready.digest, plain.size(), ready.frame ? ByteView(*ready.frame) : plain));
  is_live_.push_back(true);
  stream_.push_back(place);
  const std::lock_guard lock(mutex_);
  known_.insert_or_assign(ready.digest, place);
}

format::PackedChunk PackWriter::store(const format::Digest& digest, std::size_t size,
                                      ByteView stored) {
  const auto pack = base_packs_ + static_cast<std::uint32_t>(packs_.size());
  if (!open_pack_) open_pack_.emplace(layout_);
  const format::PackedChunk chunk{.digest = digest,
                                  .pack = pack,
                                  .offset = open_pack_->append(stored),
                                  .stored_size = static_cast<std::uint32_t>(stored.size()),
                                  .size = static_cast<std::uint32_t>(size)};
  if (open_pack_->size() >= full_pack_size(pack, options_.pack_size)) finish_pack();
  return chunk;
}

void PackWriter::finish_pack() {
  if (!open_pack_) return;
  packs_.push_back(open_pack_->finish());
  open_pack_.reset();
}

void PackWriter::finish_hot() {
  finish_pack();
  hot_packs_ = packs_.size();
}

void PackWriter::fail(std::exception_ptr error) {
  // Their slices go back to the pool, where the caller of add() may be waiting for a buffer.
  std::deque<Task> tasks;
  std::map<std::size_t, Ready> ready;
  {
    const std::lock_guard lock(mutex_);
    if (!error_) error_ = std::move(error);
    tasks.swap(tasks_);
    ready.swap(ready_);
  }
  changed_.notify_all();
}

std::vector<bool> PackWriter::choose_base_packs() const {
  std::vector<PackUse> use(base_packs_);
  for (std::uint32_t pack = 0; pack < base_packs_; ++pack)
    use[pack].size = base_->metadata.pack(pack).size;
  for (std::size_t place = 0; place < distinct_.size(); ++place) {
    const format::PackedChunk& chunk = distinct_[place];
    if (is_live_[place] && chunk.pack < base_packs_) use[chunk.pack].live += chunk.stored_size;
  }
  const auto next = base_packs_ + static_cast<std::uint32_t>(packs_.size());
  const std::uint64_t full = full_pack_size(next, options_.pack_size);
  return choose_packs(use, {.count = next - base_packs_ + (open_pack_ ? 1 : 0),
                            .room = open_pack_ ? full - open_pack_->size() : 0,
                            .full_size = full,
                            .limit = options_.max_packs});
}

// Stores the live chunks anew that are in packs which are not kept.
void PackWriter::replace(const std::vector<bool>& kept, PackedStream& result) {
  std::vector<bool> is_replaced(base_packs_);
  for (std::size_t place = 0; place < distinct_.size(); ++place) {
    format::PackedChunk& chunk = distinct_[place];
    if (!is_live_[place] || chunk.pack >= base_packs_ || kept[chunk.pack]) continue;
    is_replaced[chunk.pack] = true;
    result.moved_bytes += chunk.stored_size;
    chunk = store(chunk.digest, chunk.size, read_base_chunk(chunk));
  }
  result.replaced_packs =
      static_cast<std::uint32_t>(std::count(is_replaced.begin(), is_replaced.end(), true));
}

Bytes PackWriter::read_base_chunk(const format::PackedChunk& chunk) {
  Bytes stored = base_->read_stored(chunk);
  const bool is_right =
      stored.size() == chunk.stored_size &&
      format::sha256(chunk.is_compressed()
                         ? format::FrameDecompressor().decompress(stored, chunk.size)
                         : stored) == chunk.digest;
  if (is_right) return stored;
  throw CorruptError("The pack " + base_->metadata.pack(chunk.pack).digest.to_string() +
                     " of the image to build upon does not hold the chunk " +
                     chunk.digest.to_string() + ". Build without that image.");
}

void PackWriter::list_packs(const std::vector<bool>& kept, PackedStream& result) {
  std::map<format::Digest, format::Digest> verity;
  auto& packs = result.contents.packs;
  for (std::uint32_t pack = 0; pack < base_packs_; ++pack) {
    if (!kept[pack]) continue;
    packs.push_back(base_->metadata.pack(pack));
    const auto digest = packs.back().digest;
    if (const auto recorded = base_->metadata.verity(digest)) verity.emplace(digest, *recorded);
  }
  result.kept_packs = static_cast<std::uint32_t>(packs.size());
  for (std::size_t i = 0; i < packs_.size(); ++i) {
    const WrittenBlob& pack = packs_[i];
    packs.push_back(
        {.digest = pack.digest, .size = pack.size, .hot_size = i < hot_packs_ ? pack.size : 0});
    verity.emplace(pack.digest, pack.verity);
    if (!pack.is_new) continue;
    ++result.new_packs;
    result.new_bytes += pack.size;
  }
  result.contents.verity.assign(verity.begin(), verity.end());
}

void PackWriter::list_chunks(const std::vector<bool>& kept, PackedStream& result) {
  std::vector<std::uint32_t> pack_places(base_packs_ + packs_.size());
  std::uint32_t next = 0;
  for (std::size_t pack = 0; pack < pack_places.size(); ++pack) {
    pack_places[pack] = next;
    if (pack >= base_packs_ || kept[pack]) ++next;
  }

  std::vector<std::size_t> order;
  for (std::size_t place = 0; place < distinct_.size(); ++place)
    if (is_live_[place]) order.push_back(place);
  const auto position = [this](std::size_t place) {
    return std::pair(distinct_[place].pack, distinct_[place].offset);
  };
  std::sort(order.begin(), order.end(),
            [&](std::size_t a, std::size_t b) { return position(a) < position(b); });

  std::vector<format::ChunkIndex> indices(distinct_.size(), format::kNoChunkIndex);
  result.contents.chunks.reserve(order.size());
  for (const std::size_t place : order) {
    indices[place] = format::ChunkIndex{static_cast<std::uint32_t>(result.contents.chunks.size())};
    result.contents.chunks.push_back(distinct_[place]);
    result.contents.chunks.back().pack = pack_places[distinct_[place].pack];
  }
  if (base_)
    result.base_chunks.assign(indices.begin(), indices.begin() + base_->metadata.chunk_count());
  result.chunks.reserve(stream_.size());
  for (const std::size_t place : stream_) result.chunks.push_back(indices[place]);
}

}  // namespace puzzlefs::build
