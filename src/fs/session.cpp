// The life of a mount. The thread that calls run() does the handshake with the kernel and then only
// waits, for a signal or for the end of the threads that serve: a fixed number of them, each in a
// loop of its own around read(/dev/fuse).
#include "fs/session.h"

#include <poll.h>
#include <spdlog/spdlog.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <thread>

#include "fetch/file_descriptor.h"
#include "format/error.h"
#include "fs/mount.h"
#include "fs/mount_options.h"
#include "fs/operations.h"

namespace puzzlefs::fs {
namespace {

/// Interrupts a thread's read(2). Ignored by default, so that a late one does no harm.
constexpr int kWakeSignal = SIGURG;

/// The memory that libfuse receives requests into, made by its first use.
class RequestBuffer {
 public:
  RequestBuffer() = default;
  ~RequestBuffer() { std::free(buffer_.mem); }
  RequestBuffer(const RequestBuffer&) = delete;
  RequestBuffer& operator=(const RequestBuffer&) = delete;

  fuse_buf* get() { return &buffer_; }

 private:
  fuse_buf buffer_{};
};

/// Receives and handles one request. False when there will be none any more.
bool serve_one(fuse_session* session, RequestBuffer& buffer) {
  const int size = fuse_session_receive_buf(session, buffer.get());
  if (size == -EINTR || size == -EAGAIN) return true;
  if (size < 0) spdlog::error("Cannot receive requests from the kernel: {}.", strerror(-size));
  if (size <= 0) return false;
  fuse_session_process_buf(session, buffer.get());
  return true;
}

/// A descriptor that is readable while a termination signal is pending.
fetch::FileDescriptor termination_signals() {
  sigset_t signals;
  sigemptyset(&signals);
  for (const int signal : {SIGTERM, SIGINT, SIGHUP}) sigaddset(&signals, signal);
  fetch::FileDescriptor descriptor(::signalfd(-1, &signals, SFD_CLOEXEC));
  if (!descriptor) throw_errno("wait for signals");
  return descriptor;
}

fetch::FileDescriptor make_event() {
  fetch::FileDescriptor event(::eventfd(0, EFD_CLOEXEC));
  if (!event) throw_errno("make an event");
  return event;
}

void trigger(const fetch::FileDescriptor& event) {
  const std::uint64_t one = 1;
  while (::write(event.get(), &one, sizeof one) < 0 && errno == EINTR) continue;
}

/// Raises the soft limit of open files to the hard one, and returns it. The soft one, 1024 mostly,
/// is for programs that use select(2); every open file of the mount that is read whole takes a
/// descriptor.
std::size_t raise_open_file_limit() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) throw_errno("get the limit of open files");
  const auto raised = rlimit{limit.rlim_max, limit.rlim_max};
  if (::setrlimit(RLIMIT_NOFILE, &raised) == 0) return raised.rlim_cur;
  spdlog::debug("Cannot raise the limit of open files: {}.", strerror(errno));
  return limit.rlim_cur;
}

/// A signal whose handler does nothing still ends a blocking system call with EINTR, unless the
/// handler was set with SA_RESTART.
void prepare_wake_signal() {
  struct sigaction action {};
  action.sa_handler = [](int) {};
  ::sigaction(kWakeSignal, &action, nullptr);
}

}  // namespace

class Session::Impl {
 public:
  Impl(Tree& tree, fetch::ChunkStore& chunks, const std::filesystem::path& mountpoint,
       const SessionOptions& options)
      : threads_(std::max(options.threads, 1U)),
        has_local_chunks_(options.has_local_chunks),
        cancel_reads_(options.cancel_reads),
        control_options_(options.control),
        operations_(tree, chunks,
                    {.max_read = max_read_option(options.mount_options),
                     .whole_files = options.whole_files,
                     .passthrough = options.passthrough,
                     .max_whole_files = options.max_whole_files.value_or(open_file_limit_ / 2),
                     .stores_unasked_pages = options.has_local_chunks,
                     .root_xattrs = options.root_xattrs}),
        options_(complete_mount_options(
            options.mount_options, options.source,
            {.privileged = ::geteuid() == 0, .writable = options.overlay.has_value()})),
        overlay_(options.overlay ? std::make_unique<Overlay>(mountpoint, *options.overlay)
                                 : nullptr),
        mount_(overlay_ ? overlay_->lower() : mountpoint, options_, Operations::table(),
               Operations::io(), &operations_) {}

  ~Impl() {
    detach();  // before the wait, so that no new requests come
    if (cancel_reads_) cancel_reads_();
    if (const auto count = operations_.in_flight().count(); count > 0) {
      spdlog::info("Waiting for {} opens and reads that are still under way.", count);
    }
    operations_.in_flight().wait_until_none();
    operations_.close_all();  // while the device is open, with which the kernel knows the files
  }

  void run(const std::function<void()>& on_ready) {
    greet();
    prepare_wake_signal();
    const auto control = open_control();
    std::vector<std::thread> servers;
    try {
      start(servers);
      if (overlay_) overlay_->mount();
      on_ready();
      if (const int signal = wait_for_end(); signal != 0) {
        spdlog::info("Unmounting on signal {} ({}).", signal, strsignal(signal));
        detach();
      }
    } catch (...) {
      stop(servers);
      throw;
    }
    stop(servers);
  }

 private:
  /// The kernel's first request, INIT, is there as soon as the mount is.
  void greet() {
    RequestBuffer buffer;
    while (!operations_.greeted() && !fuse_session_exited(mount_.session())) {
      if (!serve_one(mount_.session(), buffer)) break;
    }
    if (!operations_.greeted()) throw Error(EIO, "The kernel ended the mount before it began.");
  }

  /// Null without one.
  std::unique_ptr<ControlSocket> open_control() {
    if (!control_options_) return nullptr;
    try {
      if (mount_.device().empty()) throw Error(EIO, "The mount has no number.");
      auto socket = std::make_unique<ControlSocket>(
          control_options_->runtime,
          make_control_path(control_options_->directories, mount_.device()),
          control_options_->handlers);
      operations_.add_root_xattr(kSocketXattr, socket->path());
      return socket;
    } catch (const Error& error) {
      spdlog::warn("The mount has no control socket, which \"puzzlefs stats\" may need: {}",
                   error.what());
      return nullptr;
    }
  }

  void start(std::vector<std::thread>& servers) {
    if (has_local_chunks_) storer_ = std::thread([this] { store_unasked_pages(); });
    servers.reserve(threads_);
    while (servers.size() < threads_) servers.emplace_back([this] { serve(); });
  }

  void serve() {
    sigset_t wake;
    sigemptyset(&wake);
    sigaddset(&wake, kWakeSignal);
    pthread_sigmask(SIG_UNBLOCK, &wake, nullptr);
    RequestBuffer buffer;
    while (!fuse_session_exited(mount_.session()) && serve_one(mount_.session(), buffer)) continue;
    ++ended_count_;
    trigger(ended_);
  }

  /// The kernel stores page by page, and waits for those that it is reading. Nothing ends that wait
  /// but the end of the read: a process that is killed meanwhile stays, and so does its mount,
  /// until somebody unmounts by force. So it is better not to begin if there may be such a read.
  void store_unasked_pages() {
    operations_.unasked_pages().serve(
        {.has_request = [this] { return has_request(); },
         .store =
             [this](format::InodeNumber number, std::uint64_t offset, ByteView bytes) {
               fuse_bufvec data{};
               data.count = 1;
               data.buf[0].size = bytes.size();
               data.buf[0].mem =
                   const_cast<std::byte*>(bytes.data());  // which libfuse does not change
               // Fails where the kernel has forgotten the inode, or lacks memory.
               fuse_lowlevel_notify_store(mount_.session(), format::to_integer(number),
                                          static_cast<off_t>(offset), &data, fuse_buf_copy_flags{});
             }});
  }

  /// Whether the kernel asks for something that no thread has taken yet.
  bool has_request() {
    pollfd device{fuse_session_fd(mount_.session()), POLLIN, 0};
    return ::poll(&device, 1, 0) != 0;
  }

  /// Returns the signal that arrived, or 0 if the file system was unmounted.
  int wait_for_end() {
    std::array<pollfd, 2> sources{pollfd{signals_.get(), POLLIN, 0},
                                  pollfd{ended_.get(), POLLIN, 0}};
    while (::poll(sources.data(), sources.size(), -1) < 0) {
      if (errno != EINTR) throw_errno("wait for signals");
    }
    if (sources[0].revents == 0) return 0;
    signalfd_siginfo signal{};
    if (::read(signals_.get(), &signal, sizeof signal) != sizeof signal) return SIGTERM;
    return static_cast<int>(signal.ssi_signo);
  }

  void stop(std::vector<std::thread>& servers) {
    // First, as it may have to wait for an answer to what the kernel reads.
    operations_.unasked_pages().close();
    if (storer_.joinable()) storer_.join();
    fuse_session_exit(mount_.session());
    // A signal that comes just before a thread's read(2) wakes nobody, hence again.
    while (ended_count_ < servers.size()) {
      for (auto& server : servers) pthread_kill(server.native_handle(), kWakeSignal);
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    for (auto& server : servers) server.join();
  }

  void detach() {
    try {
      if (overlay_) overlay_->detach();  // it hides the image's mount
      mount_.detach();
    } catch (const Error& error) {
      spdlog::error("{}", error.what());
    }
  }

  const std::size_t open_file_limit_ = raise_open_file_limit();
  const unsigned threads_;
  const bool has_local_chunks_;
  const std::function<void()> cancel_reads_;
  const std::optional<ControlOptions> control_options_;
  const fetch::FileDescriptor signals_ = termination_signals();
  const fetch::FileDescriptor ended_ = make_event();  // a serving thread has ended
  std::atomic<std::size_t> ended_count_ = 0;          // how many of them have
  Operations operations_;
  const std::vector<std::string> options_;  // checked before anything is made
  const std::unique_ptr<Overlay> overlay_;  // null if not writable
  FuseMount mount_;
  std::thread storer_;  // of what reads leave over; joined when run() has ended
};

Session::Session(Tree& tree, fetch::ChunkStore& chunks, const std::filesystem::path& mountpoint,
                 const SessionOptions& options)
    : impl_(std::make_unique<Impl>(tree, chunks, mountpoint, options)) {}

Session::~Session() = default;

void Session::run(const std::function<void()>& on_ready) {
  impl_->run(on_ready);
}

}  // namespace puzzlefs::fs
