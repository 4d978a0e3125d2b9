// The files that are open, and how each is read.
#pragma once

#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <mutex>
#include <unordered_map>
#include <vector>

#include "fetch/file_descriptor.h"
#include "fetch/in_flight.h"
#include "fetch/whole_files.h"
#include "format/metadata.h"
#include "fs/fuse.h"
#include "fs/open_file.h"
#include "fs/passthrough.h"

namespace puzzlefs::fs {

/// What all opens of a file share: its pieces, and perhaps a whole file to read instead of them.
/// Which of the two is decided at the first open and kept until the last close, since the kernel
/// does not take a file that is open both ways at once.
class SharedFile {
 public:
  explicit SharedFile(const format::Inode& inode) : contents_(inode) {}

  const OpenFile& contents() const { return contents_; }
  /// The file to read instead of the pieces; empty if there is none.
  const fetch::FileDescriptor& whole() const { return whole_; }
  /// Whether it still is as large as the pieces are together. If not, somebody wrote to it.
  bool whole_has_its_size() const;

 private:
  friend class OpenFiles;

  const OpenFile contents_;
  // Constant once it is decided:
  fetch::FileDescriptor whole_;
  BackingFile backing_;  // whole_ for the kernel; empty if the kernel cannot read it by itself

  // Guarded by the mutex of OpenFiles:
  bool is_decided_ = false;
  std::size_t opens_ = 0;  // that were answered, or are about to be
};

/// Thread-safe.
class OpenFiles {
 public:
  /// All must outlive the object. Without `whole_files` everything is read piece by piece, and so
  /// is what is opened while `max_whole` files are open that are read whole: each of them takes a
  /// descriptor.
  OpenFiles(const format::Metadata& metadata, fetch::WholeFiles* whole_files, std::size_t max_whole,
            Passthrough& passthrough, fetch::InFlight& in_flight)
      : metadata_(metadata),
        whole_files_(whole_files),
        max_whole_(max_whole),
        passthrough_(passthrough),
        in_flight_(in_flight) {}

  /// Replies to the request to open a file, at once or when it is decided how it is read; or with
  /// EINTR, if the program that waits for that is told to stop. Throws if the inode is malformed,
  /// and has not replied then.
  void open(fuse_req_t request, fuse_ino_t node);
  void release(fuse_ino_t node);

  /// What the kernel's file handle stands for.
  static const SharedFile& of_handle(std::uint64_t handle) {
    return *reinterpret_cast<const SharedFile*>(handle);
  }

  /// Lets go of all: the kernel never releases what is open when the connection ends. No request
  /// may be under way.
  void clear();

 private:
  void watch_for_interruption(fuse_req_t request);
  /// What is open of the inode.
  struct Opened {
    SharedFile* file = nullptr;
    bool is_first = false;  // whether this call has made it, and is to ask how it is read
  };
  Opened find_or_make(fuse_ino_t node, std::unique_lock<std::mutex>& lock);  // of mutex_
  std::unique_ptr<SharedFile> make_file(fuse_ino_t node) const;
  void ask(fuse_ino_t node, const OpenFile& contents);
  void decide(fuse_ino_t node, fetch::FileDescriptor whole);
  void refuse(fuse_ino_t node, const std::exception_ptr& error);
  void interrupt(fuse_req_t request);
  void give_up(fuse_ino_t node);
  void answer(fuse_req_t request, fuse_ino_t node, const SharedFile& file);
  SharedFile* undecided(fuse_ino_t node);                  // with mutex_ held
  std::vector<fuse_req_t> take_waiting(fuse_ino_t node);   // with mutex_ held
  std::unique_ptr<SharedFile> take_file(fuse_ino_t node);  // with mutex_ held
  void tell_closed(const SharedFile& file);

  const format::Metadata& metadata_;
  fetch::WholeFiles* const whole_files_;
  const std::size_t max_whole_;
  Passthrough& passthrough_;
  fetch::InFlight& in_flight_;

  std::mutex mutex_;  // guards all below
  std::unordered_map<fuse_ino_t, std::unique_ptr<SharedFile>> files_;
  std::unordered_multimap<fuse_ino_t, fuse_req_t> waiting_;  // for the decision on a file
  std::size_t whole_count_ = 0;                              // of files_ that are read whole
};

}  // namespace puzzlefs::fs
