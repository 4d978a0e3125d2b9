// From a request to open a file to its reply. What waits for a decision is listed, and whoever
// takes a request from the list replies to it: the decision, or the interruption of the program
// that asked.
#include "fs/open_files.h"

#include <spdlog/spdlog.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "fetch/given_up.h"
#include "format/error.h"
#include "fs/interruption.h"

namespace puzzlefs::fs {
namespace {

/// The errno of an error, which is logged.
int logged_errno(fuse_ino_t node, const std::exception_ptr& error) {
  try {
    std::rethrow_exception(error);
  } catch (const Error& failure) {
    spdlog::error("open of inode {}: {}", node, failure.what());
    return failure.code();
  } catch (const std::exception& failure) {
    spdlog::error("open of inode {}: {}", node, failure.what());
    return EIO;
  }
}

bool has_size(const fetch::FileDescriptor& file, std::uint64_t size) {
  struct stat status {};
  return ::fstat(file.get(), &status) == 0 && static_cast<std::uint64_t>(status.st_size) == size;
}

/// Of a file that is too short the kernel would make another end, or show zeros.
void drop_unless_of_size(fetch::FileDescriptor& whole, std::uint64_t size, fuse_ino_t node) {
  if (!whole || has_size(whole, size)) return;
  whole = {};
  spdlog::warn(
      "The whole file of inode {} does not have its size, so that it is read piece by piece. Find "
      "such files with \"puzzlefs cache verify\".",
      node);
}

std::uint64_t handle_of(const SharedFile& file) {
  return reinterpret_cast<std::uint64_t>(&file);
}

int reply_cached(fuse_req_t request, const SharedFile& file) {
  fuse_file_info info{};
  info.fh = handle_of(file);
  info.keep_cache = 1;
  info.noflush = 1;
  return fuse_reply_open(request, &info);
}

int reply_passthrough(fuse_req_t request, const SharedFile& file, const BackingFile& backing) {
  const auto body = open_passthrough(handle_of(file), backing);
  return fuse_reply_buf(request, reinterpret_cast<const char*>(&body), sizeof body);
}

}  // namespace

bool SharedFile::whole_has_its_size() const {
  return has_size(whole_, contents_.size());
}

void OpenFiles::open(fuse_req_t request, fuse_ino_t node) {
  if (whole_files_ != nullptr) watch_for_interruption(request);
  std::unique_lock lock(mutex_);
  auto opened = find_or_make(node, lock);
  if (!opened.file->is_decided_ && fuse_req_interrupted(request) != 0) {
    // Whoever learned of that has not found the request in the list, so that it is ours alone.
    lock.unlock();
    if (is_told_to_stop(fuse_req_ctx(request)->pid)) {
      fuse_reply_err(request, EINTR);
      if (opened.is_first) ask(node, opened.file->contents());
      return;
    }
    lock.lock();
    // The file has stayed if it is not asked for yet. The kernel tells of no second interruption.
    if (!opened.is_first) opened = find_or_make(node, lock);
  }
  if (opened.file->is_decided_) {
    ++opened.file->opens_;
    lock.unlock();
    answer(request, node, *opened.file);
    return;
  }
  // Whoever learns of an interruption from now on finds the request in the list, and as soon as the
  // lock is let go he or the decision may take it from there and reply.
  waiting_.emplace(node, request);
  lock.unlock();
  if (opened.is_first) ask(node, opened.file->contents());
}

void OpenFiles::watch_for_interruption(fuse_req_t request) {
  // Before anybody else can reply to the request, which frees it. Of an interruption that has been
  // already, libfuse tells within this call, where the request is not listed yet and is not replied
  // to, as libfuse would use it after that.
  fuse_req_interrupt_func(
      request,
      [](fuse_req_t interrupted, void* files) {
        static_cast<OpenFiles*>(files)->interrupt(interrupted);
      },
      this);
}

void OpenFiles::interrupt(fuse_req_t request) {
  if (!is_told_to_stop(fuse_req_ctx(request)->pid)) return;
  fuse_ino_t node = 0;
  bool was_last = false;
  {
    const std::lock_guard lock(mutex_);
    const auto listed = std::find_if(waiting_.begin(), waiting_.end(),
                                     [&](const auto& entry) { return entry.second == request; });
    if (listed == waiting_.end()) return;
    node = listed->first;
    waiting_.erase(listed);
    was_last = !waiting_.contains(node);
  }
  fuse_reply_err(request, EINTR);
  if (was_last) give_up(node);
}

/// Whoever comes meanwhile is helped by refuse().
void OpenFiles::give_up(fuse_ino_t node) {
  try {
    const auto file = make_file(node);
    whole_files_->give_up(file->contents().pieces(0, file->contents().size()));
  } catch (const Error&) {
    return;  // its pieces cannot be read, so it has not been asked for
  }
}

/// Lets go of the lock to make a file, as that walks the inode's pieces, of which there may be
/// many, and on a disk.
OpenFiles::Opened OpenFiles::find_or_make(fuse_ino_t node, std::unique_lock<std::mutex>& lock) {
  if (const auto found = files_.find(node); found != files_.end()) {
    return {.file = found->second.get(), .is_first = false};
  }
  lock.unlock();
  auto made = make_file(node);
  lock.lock();
  // If somebody else was faster, his is the one.
  const auto [place, is_first] = files_.try_emplace(node, std::move(made));
  if (is_first && whole_count_ >= max_whole_) place->second->is_decided_ = true;
  return {.file = place->second.get(), .is_first = is_first};
}

/// An empty file, and without a store of whole files every file, is decided from the start.
std::unique_ptr<SharedFile> OpenFiles::make_file(fuse_ino_t node) const {
  auto file = std::make_unique<SharedFile>(metadata_.get(format::InodeNumber{node}));
  file->is_decided_ = whole_files_ == nullptr || file->contents().size() == 0;
  return file;
}

void OpenFiles::ask(fuse_ino_t node, const OpenFile& contents) {
  try {
    const auto token = std::make_shared<fetch::InFlight::Token>(in_flight_.enter());
    whole_files_->open(
        contents.pieces(0, contents.size()),
        [this, node, token, size = contents.size()](fetch::Outcome<fetch::FileDescriptor> outcome) {
          if (outcome.ok()) {
            drop_unless_of_size(outcome.value(), size, node);
            decide(node, std::move(outcome.value()));
          } else {
            refuse(node, outcome.error());
          }
        });
  } catch (...) {
    refuse(node, std::current_exception());
  }
}

void OpenFiles::decide(fuse_ino_t node, fetch::FileDescriptor whole) {
  auto backing = whole ? passthrough_.open(whole) : BackingFile();
  std::vector<fuse_req_t> waiting;
  SharedFile* file = nullptr;
  std::unique_ptr<SharedFile> unwanted;
  {
    const std::lock_guard lock(mutex_);
    file = undecided(node);
    if (file == nullptr) return;
    if (whole && whole_count_ < max_whole_) {
      ++whole_count_;
      file->whole_ = std::move(whole);
      file->backing_ = std::move(backing);
    }
    file->is_decided_ = true;
    waiting = take_waiting(node);
    file->opens_ = waiting.size();
    if (waiting.empty()) unwanted = take_file(node);  // all were interrupted
  }
  // The file stays at least until the last of these is answered, even if others close it again.
  for (auto* const request : waiting) answer(request, node, *file);
}

void OpenFiles::refuse(fuse_ino_t node, const std::exception_ptr& error) {
  const bool is_given_up = fetch::is_given_up(error);
  std::vector<fuse_req_t> waiting;
  std::unique_ptr<SharedFile> file;
  const OpenFile* wanted = nullptr;
  {
    const std::lock_guard lock(mutex_);
    if (undecided(node) == nullptr) return;
    if (is_given_up && waiting_.contains(node)) {
      wanted = &undecided(node)->contents();
    } else {
      waiting = take_waiting(node);
      file = take_file(node);
    }
  }
  if (wanted != nullptr) return ask(node, *wanted);  // for those who came after it was given up
  if (waiting.empty()) return;
  const int code = logged_errno(node, error);
  for (auto* const request : waiting) fuse_reply_err(request, code);
}

void OpenFiles::answer(fuse_req_t request, fuse_ino_t node, const SharedFile& file) {
  const int result =
      file.backing_ ? reply_passthrough(request, file, file.backing_) : reply_cached(request, file);
  if (result == -ENOENT) release(node);  // interrupted: the kernel will not release it
}

void OpenFiles::release(fuse_ino_t node) {
  std::unique_ptr<SharedFile> closed;
  {
    const std::lock_guard lock(mutex_);
    const auto found = files_.find(node);
    if (found == files_.end() || --found->second->opens_ > 0) return;
    closed = take_file(node);
  }
  if (whole_files_ != nullptr && !closed->whole()) tell_closed(*closed);
}

void OpenFiles::clear() {
  const std::lock_guard lock(mutex_);
  files_.clear();
  whole_count_ = 0;
}

SharedFile* OpenFiles::undecided(fuse_ino_t node) {
  const auto found = files_.find(node);
  return found == files_.end() || found->second->is_decided_ ? nullptr : found->second.get();
}

std::vector<fuse_req_t> OpenFiles::take_waiting(fuse_ino_t node) {
  const auto [first, last] = waiting_.equal_range(node);
  std::vector<fuse_req_t> requests;
  for (auto entry = first; entry != last; ++entry) requests.push_back(entry->second);
  waiting_.erase(first, last);
  return requests;
}

std::unique_ptr<SharedFile> OpenFiles::take_file(fuse_ino_t node) {
  const auto found = files_.find(node);
  auto file = std::move(found->second);
  files_.erase(found);
  if (file->whole_) --whole_count_;
  return file;
}

void OpenFiles::tell_closed(const SharedFile& file) {
  const auto& contents = file.contents();
  if (contents.size() == 0) return;
  try {
    whole_files_->closed(contents.pieces(0, contents.size()));
  } catch (const std::exception& error) {
    // It is read piece by piece again the next time, which is all that is lost.
    spdlog::warn("Cannot make inode {} a whole file: {}", format::to_integer(contents.number()),
                 error.what());
  }
}

}  // namespace puzzlefs::fs
