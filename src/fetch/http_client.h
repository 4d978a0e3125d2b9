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

#include "fetch/fetch_stats.h"
#include "fetch/outcome.h"
#include "fetch/runtime.h"
#include "fetch/tls_certificates.h"
#include "fetch/transfer_control.h"
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
/// In bytes per second. A server that sends less is as good as one that sends nothing; the thinnest
/// of links (GPRS) still carries some hundred on each of eight connections.
inline constexpr long kLeastRate = 100;

struct HttpResponse {
  int status = 0;
  std::multimap<std::string, std::string> headers;  // names in lower case
  Bytes body;

  /// The first header of that (lower-case) name, or an empty string.
  std::string header(const std::string& name) const;
};

/// Takes a body as it comes: the next of its bytes, with the status and headers that came before
/// them and what was asked for, after redirects. Runs on the loop. What it throws ends the request
/// and is its error.
using BodyReceiver =
    std::function<void(const HttpResponse& head, const std::string& url, ByteView bytes)>;

struct HttpRequest {
  std::string method = "GET";
  std::string url;
  /// Asked in place of the URL's host, if not empty.
  std::string unix_socket = {};
  std::vector<std::string> headers;  // "Name: value"
  RequestBody body;
  /// A longer body ends a request that was served (2xx) with a CorruptError. Bodies of other
  /// answers, which only explain, are cut at kMaxExplanationSize.
  std::uint64_t max_body_size = 4 << 20;
  std::chrono::seconds connect_timeout{5};
  /// The request fails with UnavailableError when fewer than kLeastRate came or went for this long.
  std::chrono::seconds stall_timeout{30};
  /// Whether the server must prove by a trusted certificate who it is.
  bool verify_server = true;
  /// If there is one, gets the body of an answer that serves (2xx) in place of the response.
  BodyReceiver on_body;
  /// Holds back or ends the request; may be null.
  std::shared_ptr<TransferControl> control;
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
  /// Where requests and what they bring are counted; null for nowhere. Must outlive the client.
  FetchStats* stats = nullptr;
};

/// No complete answer came.
class TransportError : public UnavailableError {
 public:
  enum class Cause {
    kTls,      // the other side does not speak TLS, or not ours
    kClosed,   // nothing is sent any more: the client is being destroyed, or the request cancelled
    kTimeout,  // nothing came for longer than is waited
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

/// The connection ended, or stalled, within the body of a GET that was served (2xx).
class CutShortError : public TransportError {
 public:
  CutShortError(const std::string& what, const std::string& reason, HttpResponse part,
                std::string url)
      : TransportError(Cause::kOther, what, reason),
        part_(std::make_shared<HttpResponse>(std::move(part))),
        url_(std::move(url)) {}

  /// The answer with as much of its body as came, at least one byte, unless a BodyReceiver has got
  /// that. Shared by copies of the error.
  HttpResponse& part() const { return *part_; }
  /// What was asked for, after redirects.
  const std::string& url() const { return url_; }

 private:
  std::shared_ptr<HttpResponse> part_;
  std::string url_;
};

/// A proxy wants to know who asks. It will not be better the next time.
class ProxyLoginError : public Error {
 public:
  explicit ProxyLoginError(const std::string& what)
      : Error(EACCES, "Cannot " + what +
                          ": the proxy wants a user and a password, or others. Put them into "
                          "http_proxy and https_proxy, as in http://USER:PASSWORD@HOST:PORT.") {}
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
