// Mounting and unmounting by libfuse. It says why it could not mount in messages for the terminal,
// so that the usual reasons are looked for before, and the message becomes the error for the rest.
#include "fs/mount.h"

#include <fcntl.h>
#include <poll.h>
#include <spdlog/fmt/fmt.h>
#include <spdlog/spdlog.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>

#include "fetch/file_descriptor.h"
#include "format/error.h"
#include "fs/fuse_log.h"
#include "fs/fusermount.h"
#include "fs/unmount.h"

namespace puzzlefs::fs {
namespace {

void check_system() {
  if (::access("/dev/fuse", F_OK) != 0) {
    throw Error(ENODEV,
                "There is no /dev/fuse. Load the kernel's module with \"modprobe fuse\", or give "
                "the container \"--device /dev/fuse\".");
  }
  if (::access("/dev/fuse", R_OK | W_OK) != 0) {
    throw Error(EACCES,
                "You may not open /dev/fuse. Let root give it the mode that it has by default: "
                "\"chmod 666 /dev/fuse\".");
  }
  if (::geteuid() != 0 && !has_fusermount()) {
    throw Error(EPERM,
                "Mounting takes root or the program fusermount3, which is not installed. Install "
                "it with \"apt-get install fuse3\".");
  }
}

class Arguments {
 public:
  explicit Arguments(const std::vector<std::string>& options) {
    add("puzzlefs");
    for (const auto& option : options) add("-o" + option);
  }
  ~Arguments() { fuse_opt_free_args(&arguments_); }
  Arguments(const Arguments&) = delete;
  Arguments& operator=(const Arguments&) = delete;

  fuse_args* get() { return &arguments_; }

 private:
  void add(const std::string& argument) {
    if (fuse_opt_add_arg(&arguments_, argument.c_str()) != 0) throw std::bad_alloc();
  }

  fuse_args arguments_ = FUSE_ARGS_INIT(0, nullptr);
};

/// Whether the mount exists, be it detached.
bool is_connected(fuse_session* session) {
  pollfd device{fuse_session_fd(session), 0, 0};
  return ::poll(&device, 1, 0) == 0;
}

[[noreturn]] void fail(const std::filesystem::path& mountpoint, const FuseLogCapture& capture) {
  const auto reason = capture.text();
  throw Error(EPERM,
              fmt::format("Cannot mount at {}: {}.", mountpoint.native(),
                          reason.empty() ? "fusermount3 did not (its message is above)" : reason));
}

}  // namespace

void check_mountpoint(const std::filesystem::path& path) {
  struct stat status {};
  if (::stat(path.c_str(), &status) == 0) {
    if (S_ISDIR(status.st_mode)) return;
    throw Error(ENOTDIR, fmt::format("Cannot mount at {}: it is not a directory.", path.native()));
  }
  switch (errno) {
    case ENOENT:
      throw NotFoundError(
          fmt::format("The mount point {0} does not exist. Make it with \"mkdir -p "
                      "{0}\".",
                      path.native()));
    case ENOTCONN:
      throw Error(ENOTCONN, fmt::format("At {0} there is a mount whose server has died. Unmount it "
                                        "first, with \"umount {0}\".",
                                        path.native()));
    default:
      throw_errno("mount at " + path.native());
  }
}

FuseMount::FuseMount(const std::filesystem::path& mountpoint,
                     const std::vector<std::string>& options, const fuse_lowlevel_ops& table,
                     const fuse_custom_io& io, void* operations)
    : mountpoint_(std::filesystem::absolute(mountpoint)) {
  check_mountpoint(mountpoint_);
  check_system();
  route_fuse_log();
  const FuseLogCapture capture;
  Arguments arguments(options);
  session_.reset(fuse_session_new(arguments.get(), &table, sizeof table, operations));
  if (!session_) fail(mountpoint_, capture);
  if (fuse_session_mount(session_.get(), mountpoint_.c_str()) != 0) fail(mountpoint_, capture);
  try {
    const int result = fuse_session_custom_io(session_.get(), &io, fuse_session_fd(session_.get()));
    if (result != 0) throw_errno("prepare the mount at " + mountpoint_.native(), -result);
    if (const auto mount = mount_at(mountpoint_)) device_ = mount->device;
  } catch (...) {
    fuse_session_unmount(session_.get());  // nobody will serve it
    throw;
  }
}

FuseMount::~FuseMount() {
  try {
    detach();
  } catch (const Error& error) {
    spdlog::error("{}", error.what());
  }
  // fuse_session_unmount() frees what libfuse has noted of the mount, and unmounts whatever is at
  // the path by now, unless the connection is dead. It may still live, held by the files that
  // are open on a detached mount: so the descriptor is replaced, which closes it, by one that
  // looks dead, a pipe without a reader.
  std::array<int, 2> ends;
  if (::pipe2(ends.data(), O_CLOEXEC) == 0) {
    ::close(ends[0]);
    const fetch::FileDescriptor dead(ends[1]);
    ::dup3(dead.get(), fuse_session_fd(session_.get()), O_CLOEXEC);
    fuse_session_unmount(session_.get());
  }
}

void FuseMount::detach() {
  // A device number is given anew as soon as its mount has gone.
  if (!is_connected(session_.get())) return;
  const auto mount = mount_at(mountpoint_);
  if (mount && mount->device == device_) unmount_topmost(mountpoint_, true);
}

}  // namespace puzzlefs::fs
