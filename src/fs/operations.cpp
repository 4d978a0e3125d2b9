// The requests. The image never changes, so everything that the kernel can cache is answered as
// valid for ever, and the kernel asks only once.
#include "fs/operations.h"

#include <fcntl.h>
#include <linux/limits.h>
#include <spdlog/spdlog.h>
#include <sys/statvfs.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "format/error.h"
#include "fs/read_operation.h"
#include "fs/user_namespace.h"

namespace puzzlefs::fs {
namespace {

/// Three decades: for ever, without an overflow in anybody's arithmetic.
constexpr double kForever = 1e9;
/// Reads of several files can wait for the network at once, and the kernel holds back read-ahead
/// beyond this number of them (its default is 12).
constexpr unsigned kMaxBackground = 512;
constexpr unsigned long kStatfsBlockSize = 4096;

/// Directory offsets: "." and ".." come before the entries.
constexpr std::uint64_t kFirstEntry = 2;
/// libfuse's number for what is not known. The format has no pointer to the parent, and nobody
/// uses the number in ".." but to see that it is not zero.
constexpr ino_t kUnknownInode = 0xffffffff;

/// Names and values by the protocol of getxattr(2): asked with size 0, only their size is told.
void reply_sized(fuse_req_t request, std::string_view data, std::size_t size) {
  if (size == 0) {
    fuse_reply_xattr(request, data.size());
  } else if (size < data.size()) {
    fuse_reply_err(request, ERANGE);
  } else {
    fuse_reply_buf(request, data.data(), data.size());
  }
}

/// The same with a value that may have grown when its reader comes back with room for it.
void reply_live(fuse_req_t request, std::string_view data, std::size_t size) {
  constexpr std::size_t kRoomToGrow = 256;
  if (size == 0) {
    fuse_reply_xattr(request, data.size() + kRoomToGrow);
  } else {
    reply_sized(request, data, size);
  }
}

/// Before the reply, if names or values are in it. Throws Error.
void check(const format::Look& look) {
  if (!look.was_right()) {
    throw UnavailableError("A part of the image's metadata was damaged while it was looked at.");
  }
}

/// Replies with bytes of the file's whole file, which do not pass through this process (splice).
/// Throws Error, and has not replied then.
void reply_from(fuse_req_t request, const SharedFile& file, std::size_t size, off_t offset) {
  if (!file.whole_has_its_size()) {
    // If the kernel got too little it would take that for the end of the file, or show zeros.
    throw Error(EIO,
                "Somebody has changed the size of its whole file in the cache. Close the file "
                "wherever it is open, and run \"puzzlefs cache verify\".");
  }
  // The kernel asks for whole pages, also for the last one. libfuse takes a detour if it gets less
  // than it asked for.
  const auto start = std::min(static_cast<std::uint64_t>(offset), file.contents().size());
  fuse_bufvec data{};
  data.count = 1;
  auto& buffer = data.buf[0];
  buffer.size = std::min<std::uint64_t>(size, file.contents().size() - start);
  buffer.flags = static_cast<fuse_buf_flags>(FUSE_BUF_IS_FD | FUSE_BUF_FD_SEEK | FUSE_BUF_FD_RETRY);
  buffer.fd = file.whole().get();
  buffer.pos = static_cast<off_t>(start);
  // Moving the pages is no faster, and takes them from others who read the file.
  fuse_reply_data(request, &data, fuse_buf_copy_flags{});
}

/// A reply to readdir or readdirplus, filled until the kernel's buffer is full.
class Listing {
 public:
  Listing(fuse_req_t request, std::size_t size, bool plus)
      : request_(request),
        buffer_(std::make_unique_for_overwrite<char[]>(size)),
        size_(size),
        plus_(plus) {}

  /// Whether there was room. `next` is the offset of the entry after this one.
  bool add(std::string_view name, const fuse_entry_param& entry, std::uint64_t next) {
    name_.at(name.copy(name_.data(), format::kMaxNameSize)) = '\0';
    char* const start = buffer_.get() + used_;
    const auto room = size_ - used_;
    const auto offset = static_cast<off_t>(next);
    const auto needed =
        plus_ ? fuse_add_direntry_plus(request_, start, room, name_.data(), &entry, offset)
              : fuse_add_direntry(request_, start, room, name_.data(), &entry.attr, offset);
    if (needed > room) return false;
    used_ += needed;
    return true;
  }

  void reply() { fuse_reply_buf(request_, buffer_.get(), used_); }

 private:
  fuse_req_t request_;
  std::unique_ptr<char[]> buffer_;  // whole pages, of which most listings need little
  std::size_t size_;
  std::size_t used_ = 0;
  std::array<char, format::kMaxNameSize + 1> name_{};  // as libfuse takes it
  bool plus_;
};

/// An entry that is only a name and a number: the kernel looks it up when somebody needs more.
fuse_entry_param bare_entry(ino_t number, mode_t mode) {
  fuse_entry_param entry{};
  entry.attr.st_ino = number;
  entry.attr.st_mode = mode;
  return entry;
}

}  // namespace

format::Inode Operations::inode(fuse_ino_t node) const {
  return tree_.metadata().get(format::InodeNumber{node});
}

fuse_entry_param Operations::entry_for(const format::Inode& inode) {
  fuse_entry_param entry{};
  entry.ino = format::to_integer(inode.number());
  entry.attr = tree_.attributes(inode);
  entry.attr_timeout = kForever;
  entry.entry_timeout = kForever;
  return entry;
}

void Operations::init(fuse_conn_info& connection) {
  spdlog::debug("The kernel speaks FUSE {}.{} with capabilities {:#x}.", connection.proto_major,
                connection.proto_minor, connection.capable);
  // Of an image nothing changes behind the kernel's back. Who waits for a read past the page cache
  // that is cut into several at once (ASYNC_DIO) cannot be killed.
  constexpr unsigned kUnwanted =
      FUSE_CAP_AUTO_INVAL_DATA | FUSE_CAP_READDIRPLUS_AUTO | FUSE_CAP_ASYNC_DIO;
  constexpr unsigned kWanted = FUSE_CAP_ASYNC_READ | FUSE_CAP_PARALLEL_DIROPS |
                               FUSE_CAP_READDIRPLUS | FUSE_CAP_CACHE_SYMLINKS |
                               FUSE_CAP_NO_OPENDIR_SUPPORT | FUSE_CAP_SPLICE_WRITE;
  // Access control lists hold as in the tree that the image is of, and the kernel keeps them:
  // otherwise `ls -l` asks for each again, as for all extended attributes. In a user namespace it
  // would refuse each file whose list has somebody who is not known there.
  const unsigned lists = in_user_namespace() ? 0 : FUSE_CAP_POSIX_ACL;
  connection.want &= ~kUnwanted;
  connection.want |= connection.capable & (kWanted | lists);
  if (options_.max_read != 0) connection.max_read = options_.max_read;
  connection.max_background = kMaxBackground;
  connection.congestion_threshold = kMaxBackground / 4 * 3;
  greeted_ = true;
  // Where files are read piece by piece nothing is to be decided, kept or let go of.
  open_is_needless_ =
      options_.whole_files == nullptr && (connection.capable & FUSE_CAP_NO_OPEN_SUPPORT) != 0;
  opendir_is_needless_ = (connection.capable & FUSE_CAP_NO_OPENDIR_SUPPORT) != 0;
}

void Operations::lookup(fuse_req_t request, fuse_ino_t parent, const char* name) {
  const auto look = tree_.metadata().look();
  const auto found = tree_.lookup(inode(parent), name);
  check(look);
  if (!found) {
    fuse_entry_param absent{};  // node 0: the kernel remembers that there is no such name
    absent.entry_timeout = kForever;
    fuse_reply_entry(request, &absent);
    return;
  }
  const auto entry = entry_for(*found);
  fuse_reply_entry(request, &entry);
}

void Operations::getattr(fuse_req_t request, fuse_ino_t node) {
  const auto attributes = tree_.attributes(inode(node));
  fuse_reply_attr(request, &attributes, kForever);
}

void Operations::readlink(fuse_req_t request, fuse_ino_t node) {
  const auto look = tree_.metadata().look();
  const std::string target(inode(node).symlink_target());
  check(look);
  fuse_reply_readlink(request, target.c_str());
}

void Operations::open(fuse_req_t request, fuse_ino_t node, const fuse_file_info& info) {
  if ((info.flags & O_ACCMODE) != O_RDONLY) {
    fuse_reply_err(request, EROFS);
    return;
  }
  if (open_is_needless_) {
    // Linux never asks again then, keeps what it has read, and reads without a handle. The first
    // close of a file asks once whether there is something to flush.
    fuse_reply_err(request, ENOSYS);
    return;
  }
  open_files_.open(request, node);
}

void Operations::read(fuse_req_t request, fuse_ino_t node, std::size_t size, off_t offset,
                      const fuse_file_info& info) {
  if (open_is_needless_)
    return read_pieces(request, *read_files_.get(node), size, offset, info.flags);
  const auto& file = OpenFiles::of_handle(info.fh);
  if (file.whole()) return reply_from(request, file, size, offset);
  read_pieces(request, file.contents(), size, offset, info.flags);
}

void Operations::read_pieces(fuse_req_t request, const OpenFile& contents, std::size_t size,
                             off_t offset, int flags) {
  const auto start = static_cast<std::uint64_t>(offset);
  // Who reads past the page cache has no use for what is there, and where all reads are small they
  // say nothing.
  const bool has_large_reads = options_.max_read == 0 || options_.max_read > kSmallRead;
  const bool leaves_over = (flags & O_DIRECT) == 0 && has_large_reads;
  auto watched = options_.stores_unasked_pages
                     ? unasked_pages_.watch(contents, start, size, leaves_over)
                     : WatchedRead();
  ReadOperation::start(request, contents.number(), contents.pieces(start, size), std::move(watched),
                       {chunks_, waiting_reads_, unasked_pages_}, in_flight_.enter());
}

void Operations::release(fuse_req_t request, fuse_ino_t node) {
  open_files_.release(node);
  fuse_reply_err(request, 0);
}

void Operations::opendir(fuse_req_t request, const fuse_file_info& info) {
  if (opendir_is_needless_) {
    // Linux ≥ 5.1 never asks again then, and caches directories as below.
    fuse_reply_err(request, ENOSYS);
    return;
  }
  auto reply = info;
  reply.cache_readdir = 1;
  reply.keep_cache = 1;
  fuse_reply_open(request, &reply);
}

void Operations::readdir(fuse_req_t request, fuse_ino_t node, std::size_t size, off_t offset,
                         bool plus) {
  const auto look = tree_.metadata().look();
  const auto directory = inode(node);
  const auto end = kFirstEntry + directory.entry_count();
  Listing listing(request, size, plus);
  for (auto position = static_cast<std::uint64_t>(offset); position < end; ++position) {
    if (position < kFirstEntry) {
      const bool self = position == 0;
      const auto entry = bare_entry(self ? node : kUnknownInode, S_IFDIR);
      if (!listing.add(self ? "." : "..", entry, position + 1)) break;
      continue;
    }
    const auto [number, name] = directory.entry(static_cast<std::uint32_t>(position - kFirstEntry));
    const auto child = tree_.metadata().find(number);
    if (!child) continue;  // a whiteout
    const auto entry = plus ? listed_entry(*child)
                            : bare_entry(format::to_integer(number), type_bits(child->type()));
    if (!listing.add(name, entry, position + 1)) break;
  }
  check(look);
  listing.reply();
}

fuse_entry_param Operations::listed_entry(const format::Inode& inode) {
  try {
    return entry_for(inode);
  } catch (const CorruptError&) {
    // Listed all the same; whoever looks it up gets the error.
    return bare_entry(format::to_integer(inode.number()), 0);
  }
}

void Operations::getxattr(fuse_req_t request, fuse_ino_t node, const char* name, std::size_t size) {
  const auto look = tree_.metadata().look();
  const auto file = inode(node);
  for (std::uint32_t i = 0; i < file.xattr_count(); ++i) {
    const auto xattr = file.xattr(i);
    if (xattr.key != name) continue;
    const auto value = as_text(xattr.value);
    // The kernel could not have a view of a LazyFile filled.
    const std::string copy(value.size() <= size ? value : std::string_view());
    check(look);
    return reply_sized(request, value.size() <= size ? copy : value, size);
  }
  check(look);
  const auto live = node == FUSE_ROOT_ID ? root_xattrs_.find(name) : root_xattrs_.end();
  if (live == root_xattrs_.end()) {
    fuse_reply_err(request, ENODATA);
    return;
  }
  reply_live(request, live->second(), size);
}

void Operations::add_root_xattr(const std::string& name, const std::string& value) {
  root_xattrs_[name] = [value] { return value; };
}

void Operations::listxattr(fuse_req_t request, fuse_ino_t node, std::size_t size) {
  const auto look = tree_.metadata().look();
  const auto file = inode(node);
  std::string names;
  for (std::uint32_t i = 0; i < file.xattr_count(); ++i) {
    names += file.xattr(i).key;
    names += '\0';
    if (names.size() > XATTR_LIST_MAX) {  // more than listxattr(2) can return
      fuse_reply_err(request, E2BIG);
      return;
    }
  }
  check(look);
  reply_sized(request, names, size);
}

void Operations::statfs(fuse_req_t request) {
  const auto totals = tree_.totals();
  struct statvfs result {};
  result.f_bsize = kStatfsBlockSize;
  result.f_frsize = kStatfsBlockSize;
  result.f_blocks = (totals.bytes + kStatfsBlockSize - 1) / kStatfsBlockSize;
  result.f_files = totals.inodes;
  result.f_namemax = format::kMaxNameSize;
  fuse_reply_statfs(request, &result);
}

}  // namespace puzzlefs::fs
