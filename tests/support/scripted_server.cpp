// One blocking thread for each connection: a test has few.
#include "scripted_server.h"

#include <sys/socket.h>

#include <algorithm>
#include <boost/asio/buffer.hpp>
#include <boost/beast/http.hpp>
#include <cctype>

namespace puzzlefs::test {

namespace asio = boost::asio;
namespace http = boost::beast::http;
using asio::ip::tcp;

namespace {

std::string lower(std::string text) {
  for (char& c : text) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return text;
}

tcp::endpoint loopback(std::uint16_t port) {
  return {asio::ip::address_v4::loopback(), port};
}

std::string head_of(const Reply& reply) {
  std::string head = "HTTP/1.1 " + std::to_string(reply.status) + " Scripted\r\n";
  bool sized = reply.status == 204 || reply.status == 304;
  for (const auto& [name, value] : reply.headers) {
    head += name;
    head += ": ";
    head += value;
    head += "\r\n";
    sized = sized || lower(name) == "content-length" || lower(name) == "transfer-encoding";
  }
  if (!sized) head += "Content-Length: " + std::to_string(reply.body.size()) + "\r\n";
  return head + "\r\n";
}

}  // namespace

std::string ServedRequest::header(const std::string& name) const {
  const auto found = headers.find(name);
  return found == headers.end() ? std::string() : found->second;
}

ScriptedServer::ScriptedServer(Script script, std::uint16_t port)
    : script_(std::move(script)), acceptor_(context_, loopback(port)) {
  host_ = "127.0.0.1:" + std::to_string(acceptor_.local_endpoint().port());
  acceptor_thread_ = std::thread([this] { accept_all(); });
}

ScriptedServer::~ScriptedServer() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
    for (const int socket : sockets_) ::shutdown(socket, SHUT_RDWR);
  }
  changed_.notify_all();
  ::shutdown(acceptor_.native_handle(), SHUT_RDWR);
  acceptor_thread_.join();
  for (auto& thread : threads_) thread.join();
}

void ScriptedServer::accept_all() {
  for (;;) {
    boost::system::error_code error;
    tcp::socket socket(context_);
    acceptor_.accept(socket, error);
    const std::lock_guard lock(mutex_);
    if (stopping_ || error) return;
    sockets_.push_back(socket.native_handle());
    threads_.emplace_back(
        [this, connection = std::move(socket)]() mutable { serve(std::move(connection)); });
  }
}

void ScriptedServer::serve(tcp::socket socket) {
  std::string buffer;
  while (serve_one(socket, buffer)) {
  }
  const std::lock_guard lock(mutex_);
  std::replace(sockets_.begin(), sockets_.end(), socket.native_handle(), -1);
  boost::system::error_code ignored;
  socket.close(ignored);
}

// Returns whether the connection is still good.
bool ScriptedServer::serve_one(tcp::socket& socket, std::string& buffer) {
  boost::system::error_code error;
  http::request_parser<http::string_body> parser;
  parser.body_limit(1U << 30);
  auto dynamic = asio::dynamic_buffer(buffer);
  http::read(socket, dynamic, parser, error);  // what is no HTTP, such as TLS, ends here
  if (error) return false;
  const auto& message = parser.get();
  ServedRequest request{
      std::string(message.method_string()), std::string(message.target()), {}, message.body()};
  for (const auto& field : message) {
    request.headers[lower(std::string(field.name_string()))] = std::string(field.value());
  }
  const bool head = request.method == "HEAD";
  const Reply reply = answer(std::move(request));
  std::string answer_text = head_of(reply);
  if (!head) answer_text += reply.body.substr(0, reply.body_sent);
  if (!send(socket, answer_text)) return false;
  finish(socket, reply.ending);
  return reply.ending == Reply::Ending::kKeepAlive;
}

// Returns whether all of it went.
bool ScriptedServer::send(tcp::socket& socket, std::string_view text) {
  while (!text.empty()) {
    boost::system::error_code error;
    const auto count = socket.write_some(asio::buffer(text), error);
    sent_ += count;
    if (error) return false;
    text.remove_prefix(count);
  }
  return true;
}

Reply ScriptedServer::answer(ServedRequest request) {
  const std::lock_guard lock(mutex_);
  requests_.push_back(std::move(request));
  changed_.notify_all();
  return script_(requests_.back());
}

void ScriptedServer::finish(tcp::socket& socket, Reply::Ending ending) {
  if (ending == Reply::Ending::kReset) {
    socket.set_option(asio::socket_base::linger(true, 0));
  } else if (ending == Reply::Ending::kStall) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return stopping_; });
  }
}

std::vector<ServedRequest> ScriptedServer::requests() const {
  const std::lock_guard lock(mutex_);
  return requests_;
}

std::size_t ScriptedServer::count(const std::string& method, const std::string& part) const {
  const auto all = requests();
  return static_cast<std::size_t>(
      std::count_if(all.begin(), all.end(), [&](const ServedRequest& request) {
        return request.method == method && request.target.find(part) != std::string::npos;
      }));
}

std::size_t ScriptedServer::connections() const {
  const std::lock_guard lock(mutex_);
  return threads_.size();
}

void ScriptedServer::wait_for_requests(std::size_t number) const {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return requests_.size() >= number; });
}

std::uint16_t free_port() {
  asio::io_context context;
  return tcp::acceptor(context, loopback(0)).local_endpoint().port();
}

}  // namespace puzzlefs::test
