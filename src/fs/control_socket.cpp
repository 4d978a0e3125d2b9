// A small HTTP server by Boost.Beast. All of it happens on the loop's thread.
#include "fs/control_socket.h"

#include <spdlog/fmt/fmt.h>
#include <spdlog/spdlog.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <boost/asio/io_context.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/beast/core/basic_stream.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http/empty_body.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/read.hpp>
#include <boost/beast/http/string_body.hpp>
#include <boost/beast/http/write.hpp>
#include <future>
#include <set>
#include <utility>

#include "format/error.h"

namespace puzzlefs::fs {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = boost::beast::http;
using Protocol = asio::local::stream_protocol;
using boost::system::error_code;

/// Whether the other side is this process's user or root. The directory keeps others out already,
/// unless somebody has opened it.
bool is_trusted(Protocol::socket& socket) {
  ucred peer{};
  socklen_t size = sizeof peer;
  if (::getsockopt(socket.native_handle(), SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0)
    return false;
  return peer.uid == 0 || peer.uid == ::geteuid();
}

http::response<http::string_body> make_response(http::status status, std::string_view text) {
  constexpr unsigned kVersion = 11;  // HTTP/1.1
  http::response<http::string_body> response(status, kVersion);
  response.set(http::field::content_type, "text/plain; charset=utf-8");
  response.body() = text;
  return response;
}

[[noreturn]] void fail(const std::filesystem::path& path, const std::string& reason, int code) {
  throw Error(code, fmt::format("Cannot listen at {}: {}.", path.native(), reason));
}

}  // namespace

class ControlSocket::Server : public std::enable_shared_from_this<Server> {
 public:
  Server(asio::io_context& loop, ControlHandlers handlers, std::chrono::milliseconds time_limit)
      : acceptor_(loop), retry_(loop), handlers_(std::move(handlers)), time_limit_(time_limit) {}

  void listen(const std::filesystem::path& path);  // before all others, on any thread
  void accept();
  void close();

  std::chrono::milliseconds time_limit() const { return time_limit_; }
  http::response<http::string_body> answer(http::verb method, std::string_view target) const;
  void forget(const std::shared_ptr<Connection>& connection);

 private:
  void welcome(Protocol::socket socket);
  void accept_later();

  Protocol::acceptor acceptor_;
  asio::steady_timer retry_;
  const ControlHandlers handlers_;
  const std::chrono::milliseconds time_limit_;
  // Touched on the loop only.
  std::set<std::shared_ptr<Connection>> connections_;
  bool is_accepting_ = false;
  bool is_closed_ = false;
};

/// One request and its answer.
class ControlSocket::Connection : public std::enable_shared_from_this<Connection> {
 public:
  Connection(Protocol::socket socket, Server& server)
      : stream_(std::move(socket)), server_(server.shared_from_this()) {
    parser_.header_limit(kMaxRequestSize);
    stream_.expires_after(server.time_limit());
  }

  void start() {
    http::async_read_header(stream_, buffer_, parser_,
                            [self = shared_from_this()](const error_code& error, std::size_t) {
                              self->receive(error);
                            });
  }
  void close() {
    server_.reset();
    stream_.close();
  }

 private:
  void receive(const error_code& error) {
    if (!server_) return;  // closed
    if (!error) {
      const auto& request = parser_.get();
      const auto target = request.target();
      return send(server_->answer(request.method(), {target.data(), target.size()}));
    }
    if (error == http::error::header_limit || error == http::error::buffer_overflow) {
      return send(make_response(http::status::request_header_fields_too_large,
                                "The request is too large.\n"));
    }
    if (error.category() == http::make_error_code(http::error::bad_method).category() &&
        error != http::error::end_of_stream) {
      return send(make_response(http::status::bad_request, "This is no HTTP request.\n"));
    }
    end();
  }

  void send(http::response<http::string_body> response) {
    response_ = std::move(response);
    response_.keep_alive(false);
    response_.prepare_payload();
    http::async_write(stream_, response_,
                      [self = shared_from_this()](const error_code&, std::size_t) { self->end(); });
  }

  void end() {
    if (!server_) return;
    stream_.close();
    std::exchange(server_, nullptr)->forget(shared_from_this());
  }

  beast::basic_stream<Protocol> stream_;
  std::shared_ptr<Server> server_;  // null once it is closed
  beast::flat_buffer buffer_{kMaxRequestSize};
  http::request_parser<http::empty_body> parser_;
  http::response<http::string_body> response_;
};

void ControlSocket::Server::listen(const std::filesystem::path& path) {
  try {
    const Protocol::endpoint endpoint(path.native());
    acceptor_.open();
    acceptor_.bind(endpoint);
    if (::chmod(path.c_str(), S_IRUSR | S_IWUSR) != 0) throw_errno("change " + path.native());
    acceptor_.listen();
  } catch (const boost::system::system_error& error) {
    fail(path, error.code().message(), error.code().value());
  }
}

void ControlSocket::Server::accept() {
  if (is_closed_ || is_accepting_ || connections_.size() >= kMaxConnections) return;
  is_accepting_ = true;
  acceptor_.async_accept(
      [self = shared_from_this()](const error_code& error, Protocol::socket socket) {
        self->is_accepting_ = false;
        if (self->is_closed_) return;
        if (error) return self->accept_later();
        self->welcome(std::move(socket));
        self->accept();
      });
}

void ControlSocket::Server::welcome(Protocol::socket socket) {
  if (!is_trusted(socket)) return;
  const auto connection = std::make_shared<Connection>(std::move(socket), *this);
  connections_.insert(connection);
  connection->start();
}

/// All descriptors may be in use for now.
void ControlSocket::Server::accept_later() {
  retry_.expires_after(std::chrono::seconds(1));
  retry_.async_wait([self = shared_from_this()](const error_code&) { self->accept(); });
}

void ControlSocket::Server::forget(const std::shared_ptr<Connection>& connection) {
  connections_.erase(connection);
  accept();
}

void ControlSocket::Server::close() {
  is_closed_ = true;
  error_code ignored;
  acceptor_.close(ignored);
  retry_.cancel();
  for (const auto& connection : std::exchange(connections_, {})) connection->close();
}

http::response<http::string_body> ControlSocket::Server::answer(http::verb method,
                                                                std::string_view target) const {
  const auto handler = handlers_.find(target.substr(0, target.find('?')));
  if (handler == handlers_.end()) {
    std::string text = "There is nothing here. What there is:";
    for (const auto& [path, unused] : handlers_) text += " " + path;
    return make_response(http::status::not_found, text + "\n");
  }
  if (method != http::verb::get) {
    auto response = make_response(http::status::method_not_allowed, "Only GET is served.\n");
    response.set(http::field::allow, "GET");
    return response;
  }
  try {
    auto [type, body] = handler->second();
    auto response = make_response(http::status::ok, {});
    response.set(http::field::content_type, type);
    response.body() = std::move(body);
    return response;
  } catch (const std::exception& error) {
    return make_response(http::status::internal_server_error, std::string(error.what()) + "\n");
  }
}

ControlSocket::ControlSocket(fetch::Runtime& runtime, std::filesystem::path path,
                             ControlHandlers handlers, std::chrono::milliseconds time_limit)
    : runtime_(runtime),
      path_(std::move(path)),
      server_(std::make_shared<Server>(runtime.loop(), std::move(handlers), time_limit)) {
  server_->listen(path_);
  asio::post(runtime_.loop(), [server = server_] { server->accept(); });
}

ControlSocket::~ControlSocket() {
  ::unlink(path_.c_str());
  std::promise<void> closed;
  asio::post(runtime_.loop(), [this, &closed] {
    server_->close();
    closed.set_value();
  });
  closed.get_future().wait();
}

}  // namespace puzzlefs::fs
