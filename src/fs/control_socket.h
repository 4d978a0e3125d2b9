// The socket by which programs talk to a mount that is being served: HTTP, so that curl and
// Prometheus can.
#pragma once

#include <chrono>
#include <cstddef>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <string>

#include "fetch/runtime.h"

namespace puzzlefs::fs {

/// What is answered to a GET, with its media type.
struct ControlAnswer {
  std::string type;
  std::string body;
};

/// By path, as in "/metrics". Called on the loop, so they must not block; what they throw becomes
/// the answer, with status 500.
using ControlHandlers = std::map<std::string, std::function<ControlAnswer()>, std::less<>>;

/// A server of GET requests, one to a connection, on a Unix socket that only the user of this
/// process and root may use. Lives on the loop of `runtime`, without a thread of its own.
class ControlSocket {
 public:
  static constexpr std::size_t kMaxRequestSize = 8 << 10;
  /// Others wait until one of these has ended.
  static constexpr std::size_t kMaxConnections = 8;
  /// A connection that takes longer is ended.
  static constexpr std::chrono::seconds kTimeLimit{10};

  /// Listens at `path`, in an existing directory that is private to the user. Throws Error.
  ControlSocket(fetch::Runtime& runtime, std::filesystem::path path, ControlHandlers handlers,
                std::chrono::milliseconds time_limit = kTimeLimit);
  /// Removes the socket and ends all connections. No handler is called afterwards. Not for the loop
  /// or a handler.
  ~ControlSocket();
  ControlSocket(const ControlSocket&) = delete;
  ControlSocket& operator=(const ControlSocket&) = delete;

  const std::filesystem::path& path() const { return path_; }

 private:
  class Server;
  class Connection;

  fetch::Runtime& runtime_;
  const std::filesystem::path path_;
  std::shared_ptr<Server> server_;
};

}  // namespace puzzlefs::fs
