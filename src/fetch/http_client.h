// HTTP over libcurl's multi interface, driven by the loop. Knows nothing of registries.
#pragma once

#include <boost/asio/io_context.hpp>
#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <variant>
#include <vector>

#include "fetch/outcome.h"
#include "format/bytes.h"

namespace puzzlefs::fetch {

/// What a request sends: nothing, bytes, or a file from its start to its end.
struct FileBody {
  std::string path;
  std::uint64_t size = 0;
};
using RequestBody = std::variant<std::monostate, Bytes, FileBody>;

struct HttpRequest {
  std::string method = "GET";
  std::string url;
  std::vector<std::string> headers;  // "Name: value"
  RequestBody body;
  /// A longer response body ends the request with a CorruptError.
  std::uint64_t max_body_size = 4 << 20;
  std::chrono::seconds connect_timeout{5};
  /// The request fails with UnavailableError when fewer than 1 byte/s came or went for this long.
  std::chrono::seconds stall_timeout{30};
};

struct HttpResponse {
  int status = 0;
  std::multimap<std::string, std::string> headers;  // names in lower case
  Bytes body;

  /// The first header of that (lower-case) name, or an empty string.
  std::string header(const std::string& name) const;
};

struct HttpOptions {
  /// Connections at once to one host (registry.md: 4–8 by default).
  long connections_per_host = 8;
  std::string user_agent = "puzzlefs/" PUZZLEFS_VERSION;
};

/// Thread-safe. Redirects are not followed: that is for the caller, who knows what may be sent
/// where. The destructor fails what is under way with UnavailableError; the loop must still run or
/// have been stopped for good.
class HttpClient {
 public:
  HttpClient(boost::asio::io_context& loop, HttpOptions options = {});
  ~HttpClient();
  HttpClient(const HttpClient&) = delete;
  HttpClient& operator=(const HttpClient&) = delete;

  /// Any HTTP answer, of whatever status, is a response. Transport failures are UnavailableError.
  /// `done` runs on the loop.
  void send(HttpRequest request, Completion<HttpResponse> done);

  /// The loop that completions run on, for timers.
  boost::asio::io_context& loop();

 private:
  class Impl;
  std::shared_ptr<Impl> impl_;
};

}  // namespace puzzlefs::fetch
