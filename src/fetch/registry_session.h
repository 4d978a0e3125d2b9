// The conversation with one repository of a registry: which scheme it speaks, what authorises us,
// and single attempts at requests. Trying anew is the Retrier's part.
#pragma once

#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "fetch/authorizer.h"
#include "fetch/http_client.h"
#include "fetch/outcome.h"
#include "fetch/redirect.h"
#include "fetch/retrier.h"
#include "fetch/url.h"
#include "format/image_name.h"

namespace puzzlefs::fetch {

struct RegistryRequest {
  std::string method = "GET";
  /// Below the repository ("blobs/sha256:…"), or an absolute URL that the registry gave.
  std::string target;
  std::vector<std::string> headers;
  RequestBody body;
  std::uint64_t max_body_size = 4 << 20;
};

/// Lives on the loop: all calls from there.
class RegistrySession : public std::enable_shared_from_this<RegistrySession> {
 public:
  /// `client` must outlive the session's requests.
  RegistrySession(HttpClient& client, format::RegistryName name, Credentials credentials,
                  std::string scope, bool plain_http);

  /// One attempt, with the first contact and a token before it where they are wanted, redirects
  /// followed, and once more with fresh credentials after a 401. Any answer that is not a matter of
  /// "later" is delivered; those are BusyError.
  void exchange(RegistryRequest request, const Patience& patience, Completion<Answer> done);

 private:
  struct Exchange;

  void connect(const Patience& patience, Completion<Done> done);
  void ping(const Url& base, const Patience& patience);
  void finish_ping(const Url& base, const Patience& patience, Outcome<Answer> outcome);
  void finish_connect(const Outcome<Done>& outcome);
  void accept_ping(const Url& base, const Answer& answer);

  void authorize(const std::shared_ptr<Exchange>& exchange);
  void send(const std::shared_ptr<Exchange>& exchange, std::string authorization);
  void receive(const std::shared_ptr<Exchange>& exchange, Answer answer);
  void show_warning(const HttpResponse& response);

  HttpClient& client_;
  const format::RegistryName name_;
  const bool plain_http_;
  const std::shared_ptr<Authorizer> authorizer_;

  std::optional<Url> base_;                // "https://host/", once it answered
  std::vector<Completion<Done>> waiting_;  // for the first contact under way
  std::set<std::string> warnings_;         // shown already
};

}  // namespace puzzlefs::fetch
