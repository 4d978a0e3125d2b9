// libcurl's multi socket interface under Asio: libcurl says which sockets and which timeout it
// waits for, the loop waits for them and tells it. All of it happens on the loop's thread; other
// threads only put requests into a list.
#include "fetch/http_client.h"

#include <spdlog/spdlog.h>

#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <future>
#include <mutex>
#include <new>
#include <optional>
#include <string_view>
#include <unordered_map>
#include <utility>

#include "fetch/curl_library.h"
#include "fetch/file_descriptor.h"
#include "fetch/http_transfer.h"
#include "fetch/url.h"

namespace puzzlefs::fetch {
namespace {

constexpr std::size_t kIdleHandles = 16;
constexpr std::string_view kFinishing = "The program is finishing";
constexpr std::string_view kNotWanted = "It is not wanted any more";
constexpr std::uint64_t kMaxBundleSize = 4 << 20;  // the system's has 200 KiB

using boost::asio::posix::stream_descriptor;

// A socket of libcurl's. Closing it is libcurl's business: this only watches it.
struct WatchedSocket {
  WatchedSocket(boost::asio::io_context& loop, curl_socket_t fd) : descriptor(loop, fd) {}
  ~WatchedSocket() { forget(); }
  WatchedSocket(const WatchedSocket&) = delete;
  WatchedSocket& operator=(const WatchedSocket&) = delete;

  // Must happen before libcurl closes it: the number may stand for another socket at once.
  void forget() {
    if (!watched) return;
    watched = false;
    descriptor.release();
  }

  stream_descriptor descriptor;
  bool watched = true;
  int wanted = 0;   // CURL_POLL_IN | CURL_POLL_OUT
  int waiting = 0;  // the same bits: an async_wait is pending
};

struct FreeMulti {
  void operator()(CURLM* multi) const { curl().multi_cleanup(multi); }
};

CURLM* make_multi() {
  CURLM* const multi = curl().multi_init();
  if (multi == nullptr) throw Error(ENOMEM, "Cannot initialise libcurl.");
  return multi;
}

std::exception_ptr closed_error() {
  return std::make_exception_ptr(
      TransportError(TransportError::Cause::kClosed, "send a request", std::string(kFinishing)));
}

}  // namespace

class HttpClient::Impl : public std::enable_shared_from_this<Impl> {
 public:
  Impl(Runtime& runtime, HttpOptions options);

  Runtime& runtime() { return runtime_; }
  boost::asio::io_context& loop() { return loop_; }
  void send(HttpRequest request, Completion<HttpResponse> done);  // from any thread
  void run_aside(std::function<void()> work, Completion<Done> done);
  void shut_down();  // on the loop, or on any thread after it has stopped

 private:
  struct Queued {
    HttpRequest request;
    Completion<HttpResponse> done;
  };
  struct Active {
    std::unique_ptr<HttpTransfer> transfer;
    Completion<HttpResponse> done;
  };

  bool enqueue(Queued& queued);
  bool is_closed();
  void start_queued();
  void start(Queued queued);
  void attach(CURL* easy, TransferControl& control);
  void steer(CURL* easy);
  void finish(CURL* easy, CURLcode code);
  Active take_active(CURL* easy);
  const ServerCertificates& certificates_for(const std::string& url);
  const std::string& system_authorities();
  std::string system_bundle();
  EasyHandle take_easy();
  void act(curl_socket_t fd, int events);
  void complete_finished();
  void watch(curl_socket_t fd, int events);
  void wait(const std::shared_ptr<WatchedSocket>& socket);
  void wait(const std::shared_ptr<WatchedSocket>& socket, int event);
  void set_timer(long milliseconds);

  static int on_socket(CURL* easy, curl_socket_t fd, int events, void* self, void* socket);
  static int on_timer(CURLM* multi, long milliseconds, void* self);

  Runtime& runtime_;
  boost::asio::io_context& loop_;
  const HttpOptions options_;

  std::mutex mutex_;           // guards the next two
  std::vector<Queued> queue_;  // given by any thread, not yet with libcurl
  bool closed_ = false;

  // All below belongs to the loop's thread. The multi handle uses the sockets until it is freed,
  // so it comes after them; transfers use the certificates.
  std::unordered_map<std::string, ServerCertificates> certificates_;  // by server, once asked for
  std::optional<std::string> system_authorities_;                     // PEM, once asked for
  boost::asio::steady_timer timer_;
  std::unordered_map<curl_socket_t, std::shared_ptr<WatchedSocket>> sockets_;
  std::unordered_map<CURL*, Active> active_;
  std::vector<EasyHandle> idle_;
  std::unique_ptr<CURLM, FreeMulti> multi_;
};

HttpClient::Impl::Impl(Runtime& runtime, HttpOptions options)
    : runtime_(runtime),
      loop_(runtime.loop()),
      options_(std::move(options)),
      timer_(loop_),
      multi_(make_multi()) {
  curl().multi_setopt(multi_.get(), CURLMOPT_SOCKETFUNCTION, &Impl::on_socket);
  curl().multi_setopt(multi_.get(), CURLMOPT_SOCKETDATA, this);
  curl().multi_setopt(multi_.get(), CURLMOPT_TIMERFUNCTION, &Impl::on_timer);
  curl().multi_setopt(multi_.get(), CURLMOPT_TIMERDATA, this);
  curl().multi_setopt(multi_.get(), CURLMOPT_MAX_HOST_CONNECTIONS, options_.connections_per_host);
}

void HttpClient::Impl::send(HttpRequest request, Completion<HttpResponse> done) {
  Queued queued{std::move(request), std::move(done)};
  if (!enqueue(queued)) return queued.done(closed_error());
  boost::asio::post(loop_, [self = shared_from_this()] { self->start_queued(); });
}

void HttpClient::Impl::run_aside(std::function<void()> work, Completion<Done> done) {
  runtime_.post([self = shared_from_this(), work = std::move(work), done = std::move(done)] {
    work();
    boost::asio::post(self->loop_, [self, done] {
      if (self->is_closed()) return done(closed_error());
      done(Done{});
    });
  });
}

bool HttpClient::Impl::is_closed() {
  const std::lock_guard lock(mutex_);
  return closed_;
}

// Takes it unless the client is closed.
bool HttpClient::Impl::enqueue(Queued& queued) {
  const std::lock_guard lock(mutex_);
  if (closed_) return false;
  queue_.push_back(std::move(queued));
  return true;
}

void HttpClient::Impl::start_queued() {
  std::vector<Queued> queue;
  {
    const std::lock_guard lock(mutex_);
    queue.swap(queue_);
  }
  for (auto& queued : queue) start(std::move(queued));
}

void HttpClient::Impl::start(Queued queued) {
  try {
    if (queued.request.control && queued.request.control->is_cancelled()) {
      throw TransportError(TransportError::Cause::kClosed, "send a request",
                           std::string(kNotWanted));
    }
    const auto& certificates = certificates_for(queued.request.url);
    auto transfer = std::make_unique<HttpTransfer>(take_easy(), std::move(queued.request), options_,
                                                   certificates);
    CURL* const easy = transfer->easy();
    TransferControl* const control = transfer->control();
    // Before it is added: libcurl may call back at once.
    active_.emplace(easy, Active{std::move(transfer), queued.done});
    if (curl().multi_add_handle(multi_.get(), easy) == CURLM_OK) {
      if (control != nullptr) attach(easy, *control);
      return;
    }
    active_.erase(easy);
    throw Error(ENOMEM, "Cannot start an HTTP request.");
  } catch (const std::exception&) {
    queued.done(std::current_exception());
  }
}

// May be told by any thread, and too late: `easy` can be another request's by then, whose own reins
// are looked at.
void HttpClient::Impl::attach(CURL* easy, TransferControl& control) {
  control.attach([weak = weak_from_this(), easy] {
    if (const auto self = weak.lock()) {
      boost::asio::post(self->loop_, [self, easy] { self->steer(easy); });
    }
  });
  if (control.is_cancelled()) {  // it may have been before anybody listened
    boost::asio::post(loop_, [self = shared_from_this(), easy] { self->steer(easy); });
  }
}

void HttpClient::Impl::steer(CURL* easy) {
  const auto found = active_.find(easy);
  if (found == active_.end() || found->second.transfer->control() == nullptr) return;
  auto& transfer = *found->second.transfer;
  if (transfer.control()->is_cancelled()) {
    const auto cancelled = take_active(easy);
    auto outcome = cancelled.transfer->aborted(std::string(kNotWanted));
    curl().multi_remove_handle(multi_.get(), easy);
    return cancelled.done(std::move(outcome));
  }
  // libcurl hands on what it kept; that this failed it does not remember.
  if (const CURLcode code = transfer.resume(); code != CURLE_OK) return finish(easy, code);
  act(CURL_SOCKET_TIMEOUT, 0);
}

const ServerCertificates& HttpClient::Impl::certificates_for(const std::string& url) {
  static const ServerCertificates kNone;
  if (!url.starts_with("https:")) return kNone;
  const auto server = Url::parse(url).server();
  const auto known = certificates_.find(server);
  if (known != certificates_.end()) return known->second;
  auto found = options_.certificates.find(server);
  // libcurl takes one set of authorities: its own file is not looked at besides.
  if (!found.authorities.empty()) found.authorities += system_authorities();
  return certificates_.emplace(server, std::move(found)).first->second;
}

// Empty where there are none: the server's own may be all that is wanted.
const std::string& HttpClient::Impl::system_authorities() {
  if (system_authorities_) return *system_authorities_;
  const auto file = system_bundle();
  system_authorities_.emplace();
  try {
    if (!file.empty()) system_authorities_ = as_text(read_file(file, kMaxBundleSize));
  } catch (const Error& error) {
    spdlog::debug("Without the system's authorities: {}", error.what());
  }
  return *system_authorities_;
}

// What libcurl would look at by itself.
std::string HttpClient::Impl::system_bundle() {
  if (!options_.ca_file.empty()) return options_.ca_file;
  const EasyHandle easy(curl().easy_init());
  if (!easy) throw std::bad_alloc();
  const char* file = nullptr;
  curl().easy_getinfo(easy.get(), CURLINFO_CAINFO, &file);
  return file == nullptr ? std::string() : file;
}

EasyHandle HttpClient::Impl::take_easy() {
  if (idle_.empty()) {
    EasyHandle easy(curl().easy_init());
    if (!easy) throw std::bad_alloc();
    return easy;
  }
  EasyHandle easy = std::move(idle_.back());
  idle_.pop_back();
  return easy;
}

void HttpClient::Impl::act(curl_socket_t fd, int events) {
  int running = 0;
  curl().multi_socket_action(multi_.get(), fd, events, &running);
  complete_finished();
}

// A completion may send, and may even destroy the client.
void HttpClient::Impl::complete_finished() {
  while (multi_) {
    int left = 0;
    const CURLMsg* const message = curl().multi_info_read(multi_.get(), &left);
    if (message == nullptr) return;
    if (message->msg != CURLMSG_DONE) continue;
    finish(message->easy_handle, message->data.result);
  }
}

void HttpClient::Impl::finish(CURL* easy, CURLcode code) {
  const Active finished = take_active(easy);
  auto outcome = finished.transfer->outcome(code);
  curl().multi_remove_handle(multi_.get(), easy);
  if (idle_.size() < kIdleHandles) idle_.push_back(finished.transfer->release_easy());
  finished.done(std::move(outcome));
}

HttpClient::Impl::Active HttpClient::Impl::take_active(CURL* easy) {
  const auto found = active_.find(easy);
  Active active = std::move(found->second);
  active_.erase(found);
  if (auto* const control = active.transfer->control()) control->detach();
  return active;
}

void HttpClient::Impl::watch(curl_socket_t fd, int events) {
  if (events == CURL_POLL_REMOVE) {
    const auto found = sockets_.find(fd);
    if (found == sockets_.end()) return;
    found->second->forget();
    sockets_.erase(found);
    return;
  }
  auto& socket = sockets_[fd];
  if (!socket) socket = std::make_shared<WatchedSocket>(loop_, fd);
  socket->wanted = events;
  wait(socket);
}

void HttpClient::Impl::wait(const std::shared_ptr<WatchedSocket>& socket) {
  for (const int event : {CURL_POLL_IN, CURL_POLL_OUT}) {
    if ((socket->wanted & ~socket->waiting & event) != 0) wait(socket, event);
  }
}

void HttpClient::Impl::wait(const std::shared_ptr<WatchedSocket>& socket, int event) {
  socket->waiting |= event;
  const auto type =
      event == CURL_POLL_IN ? stream_descriptor::wait_read : stream_descriptor::wait_write;
  socket->descriptor.async_wait(
      type, [self = shared_from_this(), socket, event](const boost::system::error_code& error) {
        socket->waiting &= ~event;
        if (!socket->watched || (socket->wanted & event) == 0) return;
        static_assert(CURL_POLL_IN == CURL_CSELECT_IN && CURL_POLL_OUT == CURL_CSELECT_OUT);
        self->act(socket->descriptor.native_handle(), error ? CURL_CSELECT_ERR : event);
        if (socket->watched) self->wait(socket);
      });
}

void HttpClient::Impl::set_timer(long milliseconds) {
  timer_.cancel();
  if (milliseconds < 0) return;
  timer_.expires_after(std::chrono::milliseconds(milliseconds));
  timer_.async_wait([self = shared_from_this()](const boost::system::error_code& error) {
    if (!error && self->multi_) self->act(CURL_SOCKET_TIMEOUT, 0);
  });
}

int HttpClient::Impl::on_socket(CURL*, curl_socket_t fd, int events, void* self, void*) {
  try {
    static_cast<Impl*>(self)->watch(fd, events);
    return 0;
  } catch (const std::exception&) {
    return -1;  // libcurl gives up the transfers of this socket
  }
}

int HttpClient::Impl::on_timer(CURLM*, long milliseconds, void* self) {
  try {
    static_cast<Impl*>(self)->set_timer(milliseconds);
    return 0;
  } catch (const std::exception&) {
    return -1;
  }
}

void HttpClient::Impl::shut_down() {
  std::vector<Queued> queue;
  {
    const std::lock_guard lock(mutex_);
    closed_ = true;
    queue.swap(queue_);
  }
  auto active = std::exchange(active_, {});
  for (const auto& [easy, entry] : active) {
    if (auto* const control = entry.transfer->control()) control->detach();
    curl().multi_remove_handle(multi_.get(), easy);
  }
  multi_.reset();
  for (auto& [fd, socket] : sockets_) socket->forget();
  sockets_.clear();
  timer_.cancel();
  for (auto& [easy, entry] : active) entry.done(entry.transfer->aborted(std::string(kFinishing)));
  for (auto& queued : queue) queued.done(closed_error());
}

std::string HttpResponse::header(const std::string& name) const {
  const auto found = headers.find(name);
  return found == headers.end() ? std::string() : found->second;
}

HttpClient::HttpClient(Runtime& runtime, HttpOptions options)
    : impl_(std::make_shared<Impl>(runtime, std::move(options))) {}

HttpClient::~HttpClient() {
  auto& loop = impl_->loop();
  if (loop.stopped() || loop.get_executor().running_in_this_thread()) {
    impl_->shut_down();
    return;
  }
  const auto finished = std::make_shared<std::promise<void>>();
  boost::asio::post(loop, [impl = impl_, finished] {
    impl->shut_down();
    finished->set_value();
  });
  finished->get_future().wait();
}

void HttpClient::send(HttpRequest request, Completion<HttpResponse> done) {
  impl_->send(std::move(request), std::move(done));
}

void HttpClient::close() {
  boost::asio::post(impl_->loop(), [impl = impl_] { impl->shut_down(); });
}

void HttpClient::run_aside(std::function<void()> work, Completion<Done> done) {
  impl_->run_aside(std::move(work), std::move(done));
}

Runtime& HttpClient::runtime() {
  return impl_->runtime();
}

}  // namespace puzzlefs::fetch
