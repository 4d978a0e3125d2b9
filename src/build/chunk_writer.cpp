#include "build/chunk_writer.h"

#include <algorithm>
#include <utility>

#include "format/verity.h"

namespace puzzlefs::build {

ChunkWriter::ChunkWriter(const fetch::Layout& layout, bool compress, unsigned threads)
    : layout_(layout), compress_(compress) {
  threads_.reserve(threads);
  for (unsigned count = 0; count < threads; ++count) {
    threads_.emplace_back([this](const std::stop_token& stop) { work(stop); });
  }
}

void ChunkWriter::add(Slice chunk) {
  {
    const std::lock_guard lock(mutex_);
    if (error_) std::rethrow_exception(error_);
    const std::size_t index = stored_.chunks.size();
    stored_.chunks.emplace_back();
    tasks_.push_back({index, std::move(chunk)});
  }
  changed_.notify_one();
}

StoredChunks ChunkWriter::finish() {
  {
    const std::lock_guard lock(mutex_);
    finishing_ = true;
  }
  changed_.notify_all();
  for (std::jthread& thread : threads_) thread.join();
  if (error_) std::rethrow_exception(error_);

  stored_.verity.assign(verity_.begin(), verity_.end());
  std::sort(stored_.verity.begin(), stored_.verity.end());
  return std::move(stored_);
}

void ChunkWriter::work(const std::stop_token& stop) {
  try {
    std::optional<format::ChunkCompressor> compressor;
    if (compress_) compressor.emplace();
    while (const auto task = next_task(stop)) store(*task, compressor);
  } catch (...) {
    fail(std::current_exception());
  }
}

std::optional<ChunkWriter::Task> ChunkWriter::next_task(const std::stop_token& stop) {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, stop, [this] { return !tasks_.empty() || finishing_ || error_; });
  if (stop.stop_requested() || tasks_.empty()) return std::nullopt;
  Task task = std::move(tasks_.front());
  tasks_.pop_front();
  return task;
}

void ChunkWriter::store(const Task& task, std::optional<format::ChunkCompressor>& compressor) {
  ByteView bytes = task.chunk.bytes;
  const auto compressed = compressor ? compressor->compress(bytes) : std::nullopt;
  if (compressed) bytes = *compressed;

  const auto [digest, verity] = format::blob_digests(bytes);
  const StoredChunk chunk{.digest = digest,
                          .stored_size = bytes.size(),
                          .size = task.chunk.bytes.size(),
                          .compressed = compressed.has_value()};
  const bool first = is_first(digest);
  const bool is_new = first && layout_.write_blob(digest, bytes);

  const std::lock_guard lock(mutex_);
  stored_.chunks[task.index] = chunk;
  if (first) verity_[digest] = verity;
  if (is_new) {
    ++stored_.new_blobs;
    stored_.new_bytes += bytes.size();
  }
}

bool ChunkWriter::is_first(const format::Digest& digest) {
  const std::lock_guard lock(mutex_);
  return verity_.try_emplace(digest).second;
}

void ChunkWriter::fail(std::exception_ptr error) {
  // The tasks' slices go back to the pool, where the caller of add() may be waiting for a buffer.
  std::deque<Task> dropped;
  {
    const std::lock_guard lock(mutex_);
    if (!error_) error_ = std::move(error);
    dropped.swap(tasks_);
  }
  changed_.notify_all();
}

}  // namespace puzzlefs::build
