// What the kernel asks of a mounted image, one function for each kind of request.
#pragma once

#include <cstddef>
#include <string>

#include "fetch/chunk_store.h"
#include "fetch/in_flight.h"
#include "fetch/whole_files.h"
#include "fs/fuse.h"
#include "fs/live_xattrs.h"
#include "fs/open_files.h"
#include "fs/passthrough.h"
#include "fs/read_files.h"
#include "fs/tree.h"
#include "fs/unasked_pages.h"
#include "fs/waiting_reads.h"

namespace puzzlefs::fs {

/// The user data of a FUSE session. Thread-safe. Every method replies to its request, at once or,
/// for opens and reads, later; what a method throws before it replied becomes the reply (see
/// table()).
class Operations {
 public:
  struct Options {
    /// What the mount option of that name says, else 0.
    unsigned max_read = 0;
    /// Null to read all files piece by piece.
    fetch::WholeFiles* whole_files = nullptr;
    /// Whether the kernel may read whole files by itself.
    bool passthrough = true;
    /// At most so many files are read whole at a time.
    std::size_t max_whole_files = 0;
    /// Whether somebody serves unasked_pages().
    bool stores_unasked_pages = false;
    LiveXattrs root_xattrs = {};
  };

  /// All must outlive the object.
  Operations(Tree& tree, fetch::ChunkStore& chunks, const Options& options)
      : tree_(tree),
        chunks_(chunks),
        options_(options),
        root_xattrs_(options.root_xattrs),
        passthrough_(options.whole_files != nullptr && options.passthrough) {}

  /// The methods, and the session's input and output, as libfuse takes them.
  static const fuse_lowlevel_ops& table();
  static const fuse_custom_io& io();

  /// Whether init() was called, with which the kernel begins.
  bool greeted() const { return greeted_; }
  /// Requests that are not answered yet. They use this object and the FUSE session.
  fetch::InFlight& in_flight() { return in_flight_; }
  Passthrough& passthrough() { return passthrough_; }
  /// What reads leave over for the kernel.
  UnaskedPages& unasked_pages() { return unasked_pages_; }
  /// To be called before the session's device is closed, and when no request is under way.
  void close_all() { open_files_.clear(); }

  /// One more of the root's. To be called before requests are served by other threads.
  void add_root_xattr(const std::string& name, const std::string& value);

  void init(fuse_conn_info& connection);
  void lookup(fuse_req_t request, fuse_ino_t parent, const char* name);
  void getattr(fuse_req_t request, fuse_ino_t node);
  void readlink(fuse_req_t request, fuse_ino_t node);
  void open(fuse_req_t request, fuse_ino_t node, const fuse_file_info& info);
  void read(fuse_req_t request, fuse_ino_t node, std::size_t size, off_t offset,
            const fuse_file_info& info);
  void release(fuse_req_t request, fuse_ino_t node);
  void opendir(fuse_req_t request, const fuse_file_info& info);
  void readdir(fuse_req_t request, fuse_ino_t node, std::size_t size, off_t offset, bool plus);
  void getxattr(fuse_req_t request, fuse_ino_t node, const char* name, std::size_t size);
  void listxattr(fuse_req_t request, fuse_ino_t node, std::size_t size);
  void statfs(fuse_req_t request);

 private:
  format::Inode inode(fuse_ino_t node) const;
  fuse_entry_param entry_for(const format::Inode& inode);
  fuse_entry_param listed_entry(const format::Inode& inode);
  void read_pieces(fuse_req_t request, const OpenFile& contents, std::size_t size, off_t offset,
                   int flags);

  Tree& tree_;
  fetch::ChunkStore& chunks_;
  const Options options_;
  LiveXattrs root_xattrs_;  // constant once requests are served by several threads
  bool greeted_ = false;    // these are constant after init()
  bool open_is_needless_ = false;
  bool opendir_is_needless_ = false;

  fetch::InFlight in_flight_;
  WaitingReads waiting_reads_;
  UnaskedPages unasked_pages_;
  Passthrough passthrough_;
  OpenFiles open_files_{tree_.metadata(), options_.whole_files, options_.max_whole_files,
                        passthrough_, in_flight_};
  ReadFiles read_files_{tree_.metadata()};
};

}  // namespace puzzlefs::fs
