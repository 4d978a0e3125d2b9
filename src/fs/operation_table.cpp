// Operations as libfuse calls them: every request goes through one wrapper, where what was thrown
// becomes the reply and a line in the log.
#include <fcntl.h>
#include <spdlog/spdlog.h>
#include <sys/uio.h>

#include <cerrno>

#include "format/error.h"
#include "fs/operations.h"

namespace puzzlefs::fs {
namespace {

Operations& operations_of(fuse_req_t request) {
  return *static_cast<Operations*>(fuse_req_userdata(request));
}

/// Runs `operation(operations)`, which has not replied if it throws.
template <class Operation>
void guarded(fuse_req_t request, const char* name, fuse_ino_t node,
             Operation&& operation) noexcept {
  try {
    operation(operations_of(request));
  } catch (const Error& error) {
    spdlog::error("{} of inode {}: {}", name, node, error.what());
    fuse_reply_err(request, error.code());
  } catch (const std::exception& error) {
    spdlog::error("{} of inode {}: {}", name, node, error.what());
    fuse_reply_err(request, EIO);
  }
}

void init(void* operations, fuse_conn_info* connection) {
  static_cast<Operations*>(operations)->init(*connection);
}

void lookup(fuse_req_t request, fuse_ino_t parent, const char* name) {
  guarded(request, "lookup", parent, [&](Operations& ops) { ops.lookup(request, parent, name); });
}

/// Inode numbers are node ids, so that nothing is kept for the kernel and nothing can be forgotten.
void forget(fuse_req_t request, fuse_ino_t, std::uint64_t) {
  fuse_reply_none(request);
}
void forget_multi(fuse_req_t request, std::size_t, fuse_forget_data*) {
  fuse_reply_none(request);
}

void getattr(fuse_req_t request, fuse_ino_t node, fuse_file_info*) {
  guarded(request, "getattr", node, [&](Operations& ops) { ops.getattr(request, node); });
}

void readlink(fuse_req_t request, fuse_ino_t node) {
  guarded(request, "readlink", node, [&](Operations& ops) { ops.readlink(request, node); });
}

void open(fuse_req_t request, fuse_ino_t node, fuse_file_info* info) {
  guarded(request, "open", node, [&](Operations& ops) { ops.open(request, node, *info); });
}

void read(fuse_req_t request, fuse_ino_t node, std::size_t size, off_t offset,
          fuse_file_info* info) {
  guarded(request, "read", node,
          [&](Operations& ops) { ops.read(request, node, size, offset, *info); });
}

void release(fuse_req_t request, fuse_ino_t node, fuse_file_info*) {
  guarded(request, "release", node, [&](Operations& ops) { ops.release(request, node); });
}

void opendir(fuse_req_t request, fuse_ino_t node, fuse_file_info* info) {
  guarded(request, "opendir", node, [&](Operations& ops) { ops.opendir(request, *info); });
}

void readdir(fuse_req_t request, fuse_ino_t node, std::size_t size, off_t offset, fuse_file_info*) {
  guarded(request, "readdir", node,
          [&](Operations& ops) { ops.readdir(request, node, size, offset, false); });
}

void readdirplus(fuse_req_t request, fuse_ino_t node, std::size_t size, off_t offset,
                 fuse_file_info*) {
  guarded(request, "readdirplus", node,
          [&](Operations& ops) { ops.readdir(request, node, size, offset, true); });
}

void getxattr(fuse_req_t request, fuse_ino_t node, const char* name, std::size_t size) {
  guarded(request, "getxattr", node,
          [&](Operations& ops) { ops.getxattr(request, node, name, size); });
}

void listxattr(fuse_req_t request, fuse_ino_t node, std::size_t size) {
  guarded(request, "listxattr", node, [&](Operations& ops) { ops.listxattr(request, node, size); });
}

void statfs(fuse_req_t request, fuse_ino_t node) {
  guarded(request, "statfs", node, [&](Operations& ops) { ops.statfs(request); });
}

Passthrough& passthrough_of(void* operations) {
  return static_cast<Operations*>(operations)->passthrough();
}

ssize_t read_device(int device, void* buffer, std::size_t size, void* operations) {
  return passthrough_of(operations).read(device, buffer, size);
}

ssize_t write_device(int device, iovec* vectors, int count, void* operations) {
  return passthrough_of(operations).writev(device, vectors, count);
}

ssize_t splice_to_device(int pipe, off_t* pipe_offset, int device, off_t* device_offset,
                         std::size_t size, unsigned flags, void*) {
  return ::splice(pipe, pipe_offset, device, device_offset, size, flags);
}

}  // namespace

const fuse_custom_io& Operations::io() {
  static const fuse_custom_io kIo = [] {
    fuse_custom_io io{};
    io.read = read_device;
    io.writev = write_device;
    io.splice_send = splice_to_device;  // libfuse splices replies only with it
    return io;
  }();
  return kIo;
}

const fuse_lowlevel_ops& Operations::table() {
  // What is not here changes the file system, which the kernel refuses on a read-only mount.
  static const fuse_lowlevel_ops kTable = [] {
    fuse_lowlevel_ops table{};
    table.init = fs::init;
    table.lookup = fs::lookup;
    table.forget = fs::forget;
    table.forget_multi = fs::forget_multi;
    table.getattr = fs::getattr;
    table.readlink = fs::readlink;
    table.open = fs::open;
    table.read = fs::read;
    table.release = fs::release;
    table.opendir = fs::opendir;
    table.readdir = fs::readdir;
    table.readdirplus = fs::readdirplus;
    table.getxattr = fs::getxattr;
    table.listxattr = fs::listxattr;
    table.statfs = fs::statfs;
    return table;
  }();
  return kTable;
}

}  // namespace puzzlefs::fs
