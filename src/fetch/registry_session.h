// The conversation with one repository of a registry: which scheme it speaks, what authorises us,
// and single attempts at requests. Trying anew is the Retrier's part.
#pragma once

#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "fetch/authorizer.h"
#include "fetch/blob_routes.h"
#include "fetch/http_client.h"
#include "fetch/outcome.h"
#include "fetch/redirect.h"
#include "fetch/retrier.h"
#include "fetch/url.h"
#include "format/image_name.h"

namespace puzzlefs::fetch {

struct RegistryRequest {
  std::string method = "GET";
  /// Below the repository ("blobs/sha256:…"), below the registry's root ("/v2/"), or an absolute
  /// URL that the registry gave.
  std::string target;
  std::vector<std::string> headers;
  RequestBody body;
  std::uint64_t max_body_size = 4 << 20;
  /// Whether credentials are got anew after a 401, to try once more.
  bool renew = true;
  /// As those of HttpRequest. Greetings and tokens that the exchange needs are not controlled.
  BodyReceiver on_body = nullptr;
  std::shared_ptr<TransferControl> control = nullptr;
};

/// How a registry may be talked to.
enum class Security {
  kTls,       // loopback hosts without encryption too, when they speak no TLS
  kInsecure,  // TLS whoever the server is, or else nothing
  kPlainHttp,
};

/// By what registries.conf says of a registry, and the user, whose word goes first.
Security security_for(bool insecure, bool plain_http);

/// Lives on the loop: all calls from there.
class RegistrySession : public std::enable_shared_from_this<RegistrySession> {
 public:
  /// `client` must outlive the session's requests.
  RegistrySession(HttpClient& client, format::RegistryName name, Credentials credentials,
                  std::string scope, Security security);

  /// One attempt, with the first contact and a token before it where they are wanted, redirects
  /// followed, and once more with fresh credentials after a 401. Any answer that is not a matter of
  /// "later" is delivered; those are BusyError.
  void exchange(RegistryRequest request, const Patience& patience, Completion<Answer> done);
  /// Whether the registry wants to know who asks, once it has answered.
  bool is_challenged() const { return authorizer_->is_challenged(); }

  const format::RegistryName& name() const { return name_; }
  /// Where the registry answered. Only after an exchange that succeeded.
  const Url& base() const { return *base_; }
  BlobRoutes& routes() { return routes_; }

 private:
  struct Exchange;

  void connect(const Patience& patience, Completion<Done> done);
  HttpRequest prepared(HttpRequest request, const Patience& patience) const;
  bool may_do_without_tls(Outcome<Answer>& outcome) const;
  void ping(const Url& base, const Patience& patience);
  void finish_ping(const Url& base, const Patience& patience, Outcome<Answer> outcome);
  void finish_connect(const Outcome<Done>& outcome);
  Url home(const Url& base, const Answer& answer) const;
  void accept_ping(const Url& asked, const Answer& answer);

  std::string origin() const;
  void greet_and_send(const std::shared_ptr<Exchange>& exchange);
  void send_first(const std::shared_ptr<Exchange>& exchange);
  void receive_first(const std::shared_ptr<Exchange>& exchange, const Url& base,
                     Outcome<Answer>& outcome);
  void authorize(const std::shared_ptr<Exchange>& exchange);
  void send(const std::shared_ptr<Exchange>& exchange, std::string authorization);
  void receive(const std::shared_ptr<Exchange>& exchange, Answer answer);
  void show_warning(const HttpResponse& response);

  HttpClient& client_;
  const format::RegistryName name_;
  const Security security_;
  const std::shared_ptr<Authorizer> authorizer_;

  std::optional<Url> base_;                // "https://host/", once it answered
  bool went_first_ = false;                // a request has gone without a greeting
  std::vector<Completion<Done>> waiting_;  // for the first contact under way
  BlobRoutes routes_;
  std::set<std::string> warnings_;  // shown already
};

}  // namespace puzzlefs::fetch
