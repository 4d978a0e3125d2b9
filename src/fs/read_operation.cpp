// Reading without waiting. An ordinary read covers a few pieces, since chunks are not small: all
// chunks are asked for at once and the reply is sent straight from their memory. A chunk of which
// little is wanted is copied from and let go as it arrives, lest a read hold far more memory than
// it returns. An image can also be cut into crumbs, thousands to a read; then every chunk is copied
// from, and only so many are asked for at a time.
#include "fs/read_operation.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "fetch/given_up.h"
#include "format/error.h"

namespace puzzlefs::fs {
namespace {

/// The kernel reads up to 1 MiB at once: 64 chunks of the smallest size that images are built with,
/// and one more at each end. Well under IOV_MAX.
constexpr std::size_t kMaxPiecesAtOnce = 128;
/// A chunk is held until the reply only if it is at most so many times as large as what is wanted
/// from it. So is the sum of them.
constexpr std::size_t kMaxExcess = 4;

ByteView slice(const Bytes& chunk, const format::ChunkRef& piece) {
  if (piece.offset > chunk.size() || piece.size > chunk.size() - piece.offset) {
    throw CorruptError("A piece reaches beyond the end of chunk " + piece.blob.to_string() + ".");
  }
  return ByteView(chunk).subspan(piece.offset, piece.size);
}

bool in_same_chunk(const format::ChunkRef& a, const format::ChunkRef& b) {
  return a.blob == b.blob && a.compressed == b.compressed;
}

}  // namespace

void ReadOperation::start(fuse_req_t request, format::InodeNumber number,
                          std::vector<format::ChunkRef> pieces, WatchedRead watched,
                          const Services& services, fetch::InFlight::Token token) {
  std::make_shared<ReadOperation>(request, number, std::move(pieces), std::move(watched), services,
                                  std::move(token))
      ->advance();
}

ReadOperation::ReadOperation(fuse_req_t request, format::InodeNumber number,
                             std::vector<format::ChunkRef> pieces, WatchedRead watched,
                             const Services& services, fetch::InFlight::Token token)
    : request_(request),
      number_(number),
      pieces_(std::move(pieces)),
      services_(services),
      token_(std::move(token)),
      watched_(std::move(watched)) {
  std::size_t position = 0;
  for (std::size_t i = 0; i < pieces_.size(); ++i) {
    if (i == 0 || !in_same_chunk(pieces_[i - 1], pieces_[i])) {
      runs_.push_back({.first = i, .position = position});
    }
    runs_.back().last = i + 1;
    runs_.back().size += pieces_[i].size;
    position += pieces_[i].size;
  }
  if (pieces_.size() > kMaxPiecesAtOnce) gathered_.resize(position);
}

void ReadOperation::advance() {
  while (next_run_ < runs_.size() && !error()) {
    const auto first = next_run_;
    const auto last = std::min(first + kMaxPiecesAtOnce, runs_.size());
    next_run_ = last;
    // One more than are asked for, so that a chunk which is there at once cannot end the batch
    // while it is still being asked for. Whoever counts the last one goes on.
    waiting_ = last - first + 1;
    for (auto i = first; i < last; ++i) ask(runs_[i]);
    if (waiting_ > 1) expect_interruption();
    if (--waiting_ > 0) return;
  }
  finish();
}

/// Not before there is something to wait for, as most reads find all in memory; and while this one
/// cannot be replied to.
void ReadOperation::expect_interruption() {
  if (!std::exchange(is_listed_, true)) {
    services_.waiting_reads.add(request_, shared_from_this());
  } else if (error()) {
    services_.chunks.give_up(this);  // what was asked for after the interruption
  }
}

void ReadOperation::give_up() {
  fail(std::make_exception_ptr(fetch::GivenUpError()));
  services_.chunks.give_up(this);
}

void ReadOperation::ask(Run& run) {
  try {
    services_.chunks.read(
        pieces_[run.first],
        [self = shared_from_this(), &run](fetch::Outcome<fetch::ChunkData> outcome) {
          self->take(run, std::move(outcome));
          if (--self->waiting_ == 0) self->advance();
        },
        fetch::Purpose::kReader, this);
  } catch (...) {
    fail(std::current_exception());
    --waiting_;
  }
}

void ReadOperation::take(Run& run, fetch::Outcome<fetch::ChunkData> outcome) {
  try {
    auto& data = outcome.value();
    if (watched_.leftover) leftover_chunk_ = data;
    if (!gathered_.empty()) {
      copy(run, *data, gathered_.data() + run.position);
    } else if (data->size() / kMaxExcess <= run.size) {
      run.data = std::move(data);
    } else {
      run.copied.resize(run.size);
      copy(run, *data, run.copied.data());
    }
  } catch (...) {
    fail(std::current_exception());
  }
}

void ReadOperation::copy(const Run& run, const Bytes& chunk, std::byte* target) const {
  for (auto i = run.first; i < run.last; ++i) {
    const auto bytes = slice(chunk, pieces_[i]);
    target = std::copy(bytes.begin(), bytes.end(), target);
  }
}

void ReadOperation::fail(std::exception_ptr error) {
  const std::lock_guard lock(mutex_);
  if (!error_) error_ = std::move(error);
}

std::exception_ptr ReadOperation::error() {
  const std::lock_guard lock(mutex_);
  return error_;
}

void ReadOperation::finish() {
  if (is_listed_) services_.waiting_reads.remove(request_);
  try {
    if (const auto failure = error()) std::rethrow_exception(failure);
    const auto vectors = reply_vectors();
    fuse_reply_iov(request_, vectors.data(), static_cast<int>(vectors.size()));
  } catch (const fetch::GivenUpError& interruption) {
    fuse_reply_err(request_, interruption.code());
  } catch (const Error& failure) {
    spdlog::error("read of inode {}: {}", format::to_integer(number_), failure.what());
    fuse_reply_err(request_, failure.code());
  } catch (const std::exception& failure) {
    spdlog::error("read of inode {}: {}", format::to_integer(number_), failure.what());
    fuse_reply_err(request_, EIO);
  }
  offer_leftover();  // the reader need not wait for that
}

/// If the piece lies in the chunk, of which so far only the part that was read had to.
void ReadOperation::offer_leftover() {
  if (!leftover_chunk_) return;
  const auto& piece = watched_.leftover->from.piece;
  const auto size = leftover_chunk_->size();
  if (piece.offset > size || piece.size > size - piece.offset) return;
  services_.unasked_pages.offer(std::move(*watched_.leftover), std::move(leftover_chunk_));
}

std::vector<iovec> ReadOperation::reply_vectors() const {
  // writev(2) does not change what it sends, whatever the type says.
  const auto vector = [](ByteView bytes) {
    return iovec{const_cast<std::byte*>(bytes.data()), bytes.size()};
  };
  if (!gathered_.empty()) return {vector(gathered_)};
  std::vector<iovec> vectors;
  vectors.reserve(pieces_.size());
  for (const auto& run : runs_) {
    if (!run.data) {
      vectors.push_back(vector(run.copied));
      continue;
    }
    for (auto i = run.first; i < run.last; ++i)
      vectors.push_back(vector(slice(*run.data, pieces_[i])));
  }
  return vectors;
}

}  // namespace puzzlefs::fs
