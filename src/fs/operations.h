// What the kernel asks of a mounted image, one function for each kind of request.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <unordered_map>

#include "fetch/chunk_store.h"
#include "fs/fuse.h"
#include "fs/in_flight.h"
#include "fs/open_file.h"
#include "fs/tree.h"

namespace puzzlefs::fs {

/// The user data of a FUSE session. Thread-safe. Every method replies to its request, at once or,
/// for reads, later; what a method throws before it replied becomes the reply (see table()).
class Operations {
 public:
  /// Both must outlive the object. `max_read` is what the mount option of that name says, else 0.
  Operations(Tree& tree, fetch::ChunkStore& chunks, unsigned max_read)
      : tree_(tree), chunks_(chunks), max_read_(max_read) {}

  /// The methods as libfuse takes them.
  static const fuse_lowlevel_ops& table();

  /// Whether init() was called, with which the kernel begins.
  bool greeted() const { return greeted_; }
  /// Requests that are not answered yet. They use this object and the FUSE session.
  InFlight& in_flight() { return in_flight_; }

  void init(fuse_conn_info& connection);
  void lookup(fuse_req_t request, fuse_ino_t parent, const char* name);
  void getattr(fuse_req_t request, fuse_ino_t node);
  void readlink(fuse_req_t request, fuse_ino_t node);
  void open(fuse_req_t request, fuse_ino_t node, const fuse_file_info& info);
  void read(fuse_req_t request, std::size_t size, off_t offset, const fuse_file_info& info);
  void release(fuse_req_t request, fuse_ino_t node);
  void opendir(fuse_req_t request, const fuse_file_info& info);
  void readdir(fuse_req_t request, fuse_ino_t node, std::size_t size, off_t offset, bool plus);
  void getxattr(fuse_req_t request, fuse_ino_t node, const char* name, std::size_t size);
  void listxattr(fuse_req_t request, fuse_ino_t node, std::size_t size);
  void statfs(fuse_req_t request);

 private:
  /// What all opens of a file share.
  struct SharedFile {
    std::unique_ptr<const OpenFile> file;
    std::size_t opens = 0;
  };

  const OpenFile& share(fuse_ino_t node);
  void let_go(fuse_ino_t node);
  format::Inode inode(fuse_ino_t node) const;
  fuse_entry_param entry_for(const format::Inode& inode);
  fuse_entry_param listed_entry(const format::Inode& inode);

  Tree& tree_;
  fetch::ChunkStore& chunks_;
  const unsigned max_read_;
  bool greeted_ = false;  // these two are constant after init()
  bool opendir_is_needless_ = false;

  std::mutex mutex_;  // guards open_files_
  /// The kernel's file handle is the address of the OpenFile. What was open when the connection
  /// ended is never released by the kernel.
  std::unordered_map<fuse_ino_t, SharedFile> open_files_;
  InFlight in_flight_;
};

}  // namespace puzzlefs::fs
