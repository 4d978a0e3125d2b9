// Each job is a chain of tasks for workers, the next posted by the one before, so that readers who
// want something get their turn between them.
#include "fetch/large_files.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <exception>
#include <optional>
#include <unordered_map>
#include <utility>
#include <vector>

#include "fetch/cached_files.h"
#include "fetch/chunk_presence.h"
#include "fetch/piece_reader.h"
#include "fetch/verity_reader.h"
#include "format/error.h"

namespace puzzlefs::fetch {
namespace {

// A file and its chunks take up half of the cache at most, so that neither drives out the other.
constexpr std::uint64_t kShare = 4;
// What waits in memory: 64 MB, and in terms of files a few hundred large ones.
constexpr std::size_t kMaxQueuedPieces = 1 << 20;

// A reader has a chunk before the cache has it, so that the last of a file may come a little later
// than its close.
constexpr std::chrono::milliseconds kPause{100};
constexpr int kMaxPauses = 20;

/// The bytes of all chunks that a file has parts of, from the first to the last of each that it
/// has.
std::uint64_t distinct_bytes(const FilePieces& pieces) {
  struct Span {
    std::uint64_t begin = 0;
    std::uint64_t end = 0;
  };
  std::unordered_map<format::Digest, Span> chunks;
  for (const auto& piece : pieces) {
    const auto end = piece.offset + piece.size;
    auto& span = chunks.try_emplace(piece.blob, Span{piece.offset, end}).first->second;
    span = {std::min(span.begin, piece.offset), std::max(span.end, end)};
  }
  std::uint64_t bytes = 0;
  for (const auto& [chunk, span] : chunks) bytes += span.end - span.begin;
  return bytes;
}

}  // namespace

class LargeFiles::Job : public std::enable_shared_from_this<Job> {
 public:
  Job(LargeFiles& owner, FilePieces pieces, const Recipe& recipe, bool may_make)
      : token_(owner.in_flight_.enter()),
        owner_(owner),
        pieces_(std::move(pieces)),
        recipe_(recipe),
        may_make_(may_make) {}

  const Recipe& recipe() const { return recipe_; }
  std::size_t piece_count() const { return pieces_.size(); }

  void post(void (Job::*step)()) {
    owner_.runtime_.post([self = shared_from_this(), step] { self->run(step); });
  }
  void begin() {
    found_ = owner_.verified_.find(recipe_);
    if (!found_) return make();
    if (found_->is_verified) return accept();
    post(&Job::hash);
  }

 private:
  void run(void (Job::*step)()) {
    try {
      if (owner_.stop_) return end();
      (this->*step)();
    } catch (const std::exception& error) {
      spdlog::debug("A file is not made whole in the cache: {}", error.what());
      end();
    }
  }

  void hash() {
    bool good = false;
    try {
      const auto digest = reader_.read(found_->file.file, VerityReader::kStep);
      if (!digest) return post(&Job::hash);
      good = owner_.verified_.confirm(*found_, *digest);
    } catch (const Error& error) {
      owner_.cache_.files().quarantine(found_->digest, error.what());
    }
    if (good) return accept();
    found_.reset();
    make();
  }

  void accept() {
    const bool right = owner_.verified_.add(recipe_, found_->digest, found_->file.identity);
    if (right) owner_.verified_.cover(pieces_, {});
    found_.reset();
    right ? end() : make();
  }

  void make() {
    if (!may_make_ || !is_worth_making()) return end();
    switch (presence_of(owner_.cache_, pieces_)) {
      case Presence::kAbsent:
        return end();
      case Presence::kComing:
        return wait();
      case Presence::kHere:
        break;
    }
    made_ = owner_.cache_.files().create(recipe_.size);
    if (!made_) return end();
    chunk_sizes_.reserve(pieces_.size());
    read_pieces(
        owner_.runtime_, owner_.chunks_, pieces_, Purpose::kBackground,
        [self = shared_from_this()](const format::ChunkRef& piece, const ChunkData& chunk) {
          self->take(piece, chunk);
        },
        [self = shared_from_this()](Outcome<Done> outcome) {
          self->error_ = outcome.error();
          self->run(&Job::complete);
        });
  }

  void wait() {
    if (++pauses_ > kMaxPauses) return end();
    owner_.runtime_.post_after(kPause, [self = shared_from_this()] { self->run(&Job::make); });
  }

  // A sparse or hostile file that repeats a few chunks would only take up room.
  bool is_worth_making() const {
    if (recipe_.size > owner_.cache_.room().limit / kShare) return false;
    return distinct_bytes(pieces_) >= recipe_.size / 2;
  }

  void take(const format::ChunkRef& piece, const ChunkData& chunk) {
    if (owner_.stop_) throw Error(ECANCELED, "The image is being closed.");
    chunk_sizes_.push_back(static_cast<std::uint32_t>(chunk->size()));
    try {
      made_->write(ByteView(*chunk).subspan(piece.offset, piece.size));
    } catch (const Error& error) {
      owner_.cache_.files().warn_of_write(error);
      throw;
    }
  }

  void complete() {
    if (error_) std::rethrow_exception(error_);
    format::Digest digest;
    CachedFile file;
    try {
      file = made_->finish(digest);
    } catch (const Error& error) {
      owner_.cache_.files().warn_of_write(error);
      throw;
    }
    owner_.verified_.add(recipe_, digest, file.identity);
    owner_.verified_.cover(pieces_, chunk_sizes_);
    end();
  }

  void end() {
    made_.reset();  // its temporary file, if it was given up
    found_.reset();
    owner_.finish(*this);
  }

  const InFlight::Token token_;  // the first, so that all else is gone when it is given back
  LargeFiles& owner_;
  const FilePieces pieces_;
  const Recipe recipe_;
  const bool may_make_;
  // Used by one task at a time.
  std::optional<VerifiedFiles::Found> found_;  // that is being verified
  VerityReader reader_;
  std::unique_ptr<NewCachedFile> made_;
  std::vector<std::uint32_t> chunk_sizes_;  // of the pieces so far
  std::exception_ptr error_;                // of reading them
  int pauses_ = 0;
};

LargeFiles::~LargeFiles() {
  stop_ = true;
  {
    const std::lock_guard lock(mutex_);
    queue_.clear();
  }
  in_flight_.wait_until_none();
}

void LargeFiles::verify(FilePieces pieces, const Recipe& recipe) {
  enqueue(std::move(pieces), recipe, false);
}

void LargeFiles::make(FilePieces pieces, const Recipe& recipe) {
  enqueue(std::move(pieces), recipe, true);
}

void LargeFiles::enqueue(FilePieces pieces, const Recipe& recipe, bool may_make) {
  std::shared_ptr<Job> job;
  {
    const std::lock_guard lock(mutex_);
    if (queued_pieces_ + pieces.size() > kMaxQueuedPieces) return;
    if (!keys_.insert(recipe.key).second) return;
    job = std::make_shared<Job>(*this, std::move(pieces), recipe, may_make);
    if (is_busy_) {
      queued_pieces_ += job->piece_count();
      queue_.push_back(std::move(job));
      return;
    }
    is_busy_ = true;
  }
  job->post(&Job::begin);
}

void LargeFiles::finish(const Job& job) {
  std::shared_ptr<Job> next;
  {
    const std::lock_guard lock(mutex_);
    keys_.erase(job.recipe().key);
    is_busy_ = !stop_ && !queue_.empty();
    if (!is_busy_) return;
    next = std::move(queue_.front());
    queue_.pop_front();
    queued_pieces_ -= next->piece_count();
  }
  next->post(&Job::begin);
}

}  // namespace puzzlefs::fetch
