// HTTP over libcurl's multi interface, driven by the loop. Knows nothing of registries.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <variant>
#include <vector>

#include "fetch/outcome.h"
#include "fetch/runtime.h"
#include "fetch/tls_certificates.h"
#include "format/bytes.h"
#include "format/error.h"

namespace puzzlefs::fetch {

/// A file, sent from its start for `size` bytes.
struct FileBody {
  std::string path;
  std::uint64_t size = 0;
};
/// What a request sends: nothing, bytes (shared, since a request that is tried anew sends them
/// again), or a file.
using RequestBody = std::variant<std::monostate, std::shared_ptr<const Bytes>, FileBody>;

inline constexpr std::size_t kMaxExplanationSize = 64 << 10;

struct HttpRequest {
  std::string method = "GET";
  std::string url;
  std::vector<std::string> headers;  // "Name: value"
  RequestBody body;
  /// A longer body ends a request that was served (2xx) with a CorruptError. Bodies of other
  /// answers, which only explain, are cut at kMaxExplanationSize.
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
  /// What single servers take besides the system's authorities.
  TlsCertificates certificates = TlsCertificates();
  /// The system's authorities, a PEM file, read once; empty takes those that libcurl was built
  /// with.
  std::string ca_file;
};

/// No complete answer came.
class TransportError : public UnavailableError {
 public:
  enum class Cause {
    kTls,     // the other side does not speak TLS, or not ours
    kClosed,  // the client is being destroyed: nothing can be sent any more
    kOther,
  };
  TransportError(Cause cause, const std::string& what, const std::string& reason)
      : UnavailableError("Cannot " + what + ": " + reason + "."), cause_(cause), reason_(reason) {}

  Cause cause() const { return cause_; }
  /// Only what went wrong: "Connection refused".
  const std::string& reason() const { return reason_; }

 private:
  Cause cause_;
  std::string reason_;
};

/// TLS cannot be had at all, since the certificates of the system's authorities cannot be read and
/// no others are given for the server. It will not be better the next time.
class NoTrustError : public Error {
 public:
  NoTrustError(const std::string& what, const std::string& reason)
      : Error(EPROTO, "Cannot " + what + ": " + reason +
                          ". No server can be trusted without the certificates of the authorities; "
                          "install them, with \"apt-get install ca-certificates\".") {}
};

/// Thread-safe. Redirects are not followed: that is for the caller, who knows what may be sent
/// where. The destructor fails what is under way with UnavailableError; the loop must still run or
/// have been stopped for good.
class HttpClient {
 public:
  explicit HttpClient(Runtime& runtime, HttpOptions options = {});
  ~HttpClient();
  HttpClient(const HttpClient&) = delete;
  HttpClient& operator=(const HttpClient&) = delete;

  /// Any HTTP answer, of whatever status, is a response. A transport failure is a TransportError,
  /// but a certificate that is not trusted is a plain Error, since it will not be better the next
  /// time, and so is NoTrustError.
  /// `done` runs on the loop.
  void send(HttpRequest request, Completion<HttpResponse> done);
  /// Fails all requests, under way and to come, with UnavailableError. Does not block.
  void close();

  /// Runs `work`, which must not throw, on a worker, and then `done` on the loop: with
  /// TransportError if the client was closed or destroyed meanwhile.
  void run_aside(std::function<void()> work, Completion<Done> done);

  /// On whose loop completions run.
  Runtime& runtime();

 private:
  class Impl;
  std::shared_ptr<Impl> impl_;
};

}  // namespace puzzlefs::fetch
