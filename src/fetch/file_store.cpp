// Opening: what was verified before at once, small files by a job for each, large ones if they are
// there.
#include "fetch/file_store.h"

#include <exception>
#include <memory>
#include <optional>
#include <utility>

#include "fetch/cached_files.h"
#include "fetch/chunk_presence.h"
#include "fetch/piece_reader.h"
#include "fetch/verity_reader.h"
#include "format/error.h"
#include "format/verity.h"

namespace puzzlefs::fetch {
namespace {

/// Whether a file is made of more pieces than any builder makes: each takes time and memory, and
/// only a hostile image has so many.
bool is_crumbled(const FilePieces& pieces, const Recipe& recipe) {
  constexpr std::uint64_t kAlwaysTaken = 64;
  constexpr std::uint64_t kLeastPieceSize = 4096;  // on average
  return pieces.size() > kAlwaysTaken + recipe.size / kLeastPieceSize;
}

}  // namespace

/// A small file that is looked for, and made if need be.
class FileStore::SmallFile : public std::enable_shared_from_this<SmallFile> {
 public:
  SmallFile(FileStore& owner, FilePieces pieces, const Recipe& recipe)
      : token_(owner.in_flight_.enter()),
        owner_(owner),
        pieces_(std::move(pieces)),
        recipe_(recipe) {}

  void begin() {
    try {
      if (auto file = find()) return answer(std::move(*file));
    } catch (const std::exception&) {
      return answer(std::current_exception());
    }
    read_pieces(
        owner_.runtime_, owner_.chunks_, pieces_, Purpose::kReader,
        [self = shared_from_this()](const format::ChunkRef& piece, const ChunkData& chunk) {
          const auto bytes = ByteView(*chunk).subspan(piece.offset, piece.size);
          self->bytes_.insert(self->bytes_.end(), bytes.begin(), bytes.end());
          self->chunk_sizes_.push_back(static_cast<std::uint32_t>(chunk->size()));
        },
        [self = shared_from_this()](Outcome<Done> outcome) {
          if (!outcome.ok()) return self->answer(outcome.error());
          self->complete();
        },
        this);
  }

 private:
  std::optional<FileDescriptor> find() {
    auto found = owner_.verified_.find(recipe_);
    if (!found || !owner_.verified_.verify(*found)) return std::nullopt;
    if (!owner_.verified_.add(recipe_, found->digest, found->file.identity)) return std::nullopt;
    owner_.verified_.cover(pieces_, {});
    return std::move(found->file.file);
  }

  void complete() {
    FileDescriptor file;
    try {
      file = keep();
    } catch (const Error& error) {
      owner_.cache_.files().warn_of_write(error);
    } catch (const std::exception&) {
      return answer(std::current_exception());
    }
    answer(std::move(file));
  }

  // Another recipe may have made the same file.
  FileDescriptor keep() {
    auto digest = format::verity_digest(bytes_);
    CachedFile file;
    if (auto found = owner_.verified_.find(digest); found && owner_.verified_.verify(*found)) {
      file = std::move(found->file);
    } else {
      const auto made = owner_.cache_.files().create(bytes_.size());
      if (!made) return {};
      made->write(bytes_);
      file = made->finish(digest);
    }
    if (!owner_.verified_.add(recipe_, digest, file.identity)) return {};
    owner_.verified_.cover(pieces_, chunk_sizes_);
    return std::move(file.file);
  }

  void answer(Outcome<FileDescriptor> outcome) { owner_.answer(recipe_, std::move(outcome)); }

  const InFlight::Token token_;  // the first, so that all else is gone when it is given back
  FileStore& owner_;
  const FilePieces pieces_;
  const Recipe recipe_;
  // Used by one task at a time.
  Bytes bytes_;
  std::vector<std::uint32_t> chunk_sizes_;  // of the pieces so far
};

/// A large file that is hashed while somebody waits.
class FileStore::Verification : public std::enable_shared_from_this<Verification> {
 public:
  Verification(FileStore& owner, FilePieces pieces, const Recipe& recipe,
               VerifiedFiles::Found found)
      : token_(owner.in_flight_.enter()),
        owner_(owner),
        pieces_(std::move(pieces)),
        recipe_(recipe),
        found_(std::move(found)) {}

  void post() {
    owner_.runtime_.post([self = shared_from_this()] { self->step(); });
  }

 private:
  void step() {
    if (owner_.stop_) return owner_.answer(recipe_, FileDescriptor());
    bool good = false;
    try {
      const auto digest = reader_.read(found_.file.file, VerityReader::kStep);
      if (!digest) return post();
      good = owner_.verified_.confirm(found_, *digest) &&
             owner_.verified_.add(recipe_, found_.digest, found_.file.identity);
    } catch (const Error& error) {
      owner_.cache_.files().quarantine(found_.digest, error.what());
    }
    if (!good) return owner_.answer(recipe_, FileDescriptor());
    owner_.verified_.cover(pieces_, {});
    owner_.answer(recipe_, std::move(found_.file.file));
  }

  const InFlight::Token token_;  // the first, so that all else is gone when it is given back
  FileStore& owner_;
  const FilePieces pieces_;
  const Recipe recipe_;
  // Used by one task at a time.
  VerifiedFiles::Found found_;
  VerityReader reader_;
};

FileStore::FileStore(Runtime& runtime, Cache& cache, ChunkStore& chunks)
    : runtime_(runtime),
      cache_(cache),
      chunks_(chunks),
      verified_(cache),
      large_(runtime, cache, chunks, verified_) {}

FileStore::~FileStore() {
  stop_ = true;
  in_flight_.wait_until_none();
}

void FileStore::open(FilePieces pieces, Completion<FileDescriptor> done) {
  const auto recipe = recipe_of(pieces);
  if (is_crumbled(pieces, recipe)) return done(FileDescriptor());
  if (auto file = verified_.reopen(recipe)) return done(std::move(file));
  if (recipe.size <= kMaxSmallSize) {
    open_small(std::move(pieces), recipe, std::move(done));
  } else {
    open_large(std::move(pieces), recipe, std::move(done));
  }
}

void FileStore::closed(FilePieces pieces) {
  const auto recipe = recipe_of(pieces);
  if (is_crumbled(pieces, recipe) || recipe.size <= kMaxSmallSize) return;
  large_.make(std::move(pieces), recipe);
}

void FileStore::open_large(FilePieces pieces, const Recipe& recipe,
                           Completion<FileDescriptor> done) {
  auto found = verified_.find(recipe);
  if (!found) return done(FileDescriptor());
  if (found->is_verified) {
    if (!verified_.add(recipe, found->digest, found->file.identity)) return done(FileDescriptor());
    verified_.cover(pieces, {});
    return done(std::move(found->file.file));
  }
  // To hash the file takes less time than to fetch what was evicted because there is the file.
  const bool waits =
      recipe.size <= kMaxHashedSize || presence_of(cache_, pieces) != Presence::kHere;
  if (!waits) {
    large_.verify(std::move(pieces), recipe);
    return done(FileDescriptor());
  }
  if (!wait_for_answer(recipe, std::move(done))) return;
  std::make_shared<Verification>(*this, std::move(pieces), recipe, std::move(*found))->post();
}

void FileStore::open_small(FilePieces pieces, const Recipe& recipe,
                           Completion<FileDescriptor> done) {
  const auto job = std::make_shared<SmallFile>(*this, std::move(pieces), recipe);
  if (!wait_for_answer(recipe, std::move(done), job.get())) return;
  runtime_.post([job] { job->begin(); });
}

bool FileStore::wait_for_answer(const Recipe& recipe, Completion<FileDescriptor> done,
                                ReaderId reader) {
  const std::lock_guard lock(mutex_);
  auto& opening = waiting_[recipe.key];
  opening.waiters.push_back(std::move(done));
  const bool is_first = opening.waiters.size() == 1;
  if (is_first) opening.reader = reader;
  return is_first;
}

void FileStore::give_up(const FilePieces& pieces) {
  const auto recipe = recipe_of(pieces);
  ReaderId reader = nullptr;
  {
    const std::lock_guard lock(mutex_);
    const auto found = waiting_.find(recipe.key);
    if (found == waiting_.end()) return;
    auto& opening = found->second;
    if (++opening.given_up >= opening.waiters.size()) reader = opening.reader;
  }
  if (reader != nullptr) chunks_.give_up(reader);
}

void FileStore::answer(const Recipe& recipe, Outcome<FileDescriptor> outcome) {
  Waiters waiters;
  {
    const std::lock_guard lock(mutex_);
    waiters = std::move(waiting_.extract(recipe.key).mapped().waiters);
  }
  // The first has the file itself. Each other one opens it for himself, so that it is in use as
  // long as any of them has it, which it is by the first meanwhile.
  for (std::size_t i = 1; i < waiters.size(); ++i) {
    if (!outcome.ok()) {
      waiters[i](outcome.error());
    } else {
      waiters[i](outcome.value() ? verified_.reopen(recipe) : FileDescriptor());
    }
  }
  waiters.front()(std::move(outcome));
}

}  // namespace puzzlefs::fetch
