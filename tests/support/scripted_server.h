// An HTTP server in this process that answers as a test says, wrongly too: for faults that no real
// registry can be made to have at the right moment.
#pragma once

#include <atomic>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

namespace puzzlefs::test {

struct ServedRequest {
  std::string method;
  std::string target;
  std::map<std::string, std::string> headers;  // names in lower case
  std::string body;

  /// The header of that (lower-case) name, or an empty string.
  std::string header(const std::string& name) const;
};

struct Reply {
  /// What happens after the body, or after the part of it that is sent.
  enum class Ending { kKeepAlive, kReset, kStall };

  int status = 200;
  std::vector<std::pair<std::string, std::string>> headers;
  std::string body;
  Ending ending = Ending::kKeepAlive;
  std::size_t body_sent = std::string::npos;  // less than the body announces: a short answer
};

/// Plain HTTP on a port of 127.0.0.1, a free one by itself. Connections are served in parallel, the
/// script is called for one request at a time.
class ScriptedServer {
 public:
  using Script = std::function<Reply(const ServedRequest&)>;

  explicit ScriptedServer(Script script, std::uint16_t port = 0);
  ~ScriptedServer();
  ScriptedServer(const ScriptedServer&) = delete;
  ScriptedServer& operator=(const ScriptedServer&) = delete;

  /// "127.0.0.1:port".
  const std::string& host() const { return host_; }
  std::string url(const std::string& target) const { return "http://" + host_ + target; }

  /// All requests so far, in order.
  std::vector<ServedRequest> requests() const;
  /// How many requests there were of that method whose target contains `part`.
  std::size_t count(const std::string& method, const std::string& part) const;
  std::size_t connections() const;
  /// How many bytes of answers the kernel has taken.
  std::uint64_t sent() const { return sent_; }
  /// Waits until `number` requests have come.
  void wait_for_requests(std::size_t number) const;

 private:
  void accept_all();
  void serve(boost::asio::ip::tcp::socket socket);
  bool serve_one(boost::asio::ip::tcp::socket& socket, std::string& buffer);
  Reply answer(ServedRequest request);
  bool send(boost::asio::ip::tcp::socket& socket, std::string_view text);
  void finish(boost::asio::ip::tcp::socket& socket, Reply::Ending ending);

  const Script script_;
  boost::asio::io_context context_;
  boost::asio::ip::tcp::acceptor acceptor_;
  std::string host_;
  std::atomic<std::uint64_t> sent_ = 0;

  mutable std::mutex mutex_;  // guards all below, and calls of the script
  mutable std::condition_variable changed_;
  bool stopping_ = false;
  std::vector<ServedRequest> requests_;
  std::vector<int> sockets_;  // of the connections, to end them
  std::vector<std::thread> threads_;

  std::thread acceptor_thread_;
};

/// A port of 127.0.0.1 on which nobody listens.
std::uint16_t free_port();

}  // namespace puzzlefs::test
