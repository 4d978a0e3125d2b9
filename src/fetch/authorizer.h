// How one repository's requests are authorised: not at all, by user and password, or by a token of
// a token service (the distribution project's "Token Authentication Specification").
#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "fetch/auth_challenge.h"
#include "fetch/credentials.h"
#include "fetch/http_client.h"
#include "fetch/outcome.h"
#include "fetch/retrier.h"
#include "fetch/url.h"
#include "format/image_name.h"

namespace puzzlefs::fetch {

/// What a token service gave, and when it is time for the next one.
struct Token {
  std::string value;
  std::chrono::steady_clock::time_point renew_at;
};

/// The token of a token service's answer that was asked for at `asked`. It counts for 60 s at least
/// and is renewed when a fifth of its life, at most 30 s, is left. Throws CorruptError.
Token parse_token(ByteView document, std::chrono::steady_clock::time_point asked);

/// Throws Error (EPROTO) for a token service to which `registry` may not send us: one without
/// encryption if the registry has it, or one in a private network, unless it is the same host.
void check_realm(const Url& registry, const Url& realm);

/// Lives on the loop: all calls from there.
class Authorizer : public std::enable_shared_from_this<Authorizer> {
 public:
  /// `scope` is what tokens are asked for: "repository:NAME:pull", several separated by spaces, or
  /// nothing.
  Authorizer(HttpClient& client, Credentials credentials, format::RegistryName name,
             std::string scope);

  /// Takes note of the challenges in a 401 of `registry`: a Bearer one, else Basic. Throws Error
  /// when there is neither or a token service that may not be used.
  void learn(const Url& registry, const HttpResponse& refusal);
  /// The Authorization header for the next request, or an empty string. Credentials are looked up
  /// on a worker, since a helper may take its time, and one token is asked for however many wait.
  /// Fails with TransportError or BusyError when it may work later.
  void authorize(const Patience& patience, Completion<std::string> done);
  /// Whether the registry wants to know who asks.
  bool is_challenged() const { return challenge_.has_value(); }
  /// `header` was refused: tokens and credentials are got anew, unless that has happened already.
  void forget(const std::string& header);

 private:
  void find_credential(const Patience& patience);
  void use(const std::optional<Credential>& credential, const Patience& patience);
  void request_token(const std::optional<Credential>& credential, const Patience& patience);
  void finish(Outcome<std::string> header);
  void finish_request(Outcome<Answer> outcome, std::chrono::steady_clock::time_point asked);
  Token accept(Outcome<Answer> outcome, std::chrono::steady_clock::time_point asked) const;

  HttpClient& client_;
  const Credentials credentials_;
  const format::RegistryName name_;
  const std::string scope_;

  std::optional<AuthChallenge> challenge_;
  std::optional<Url> realm_;           // of a Bearer challenge: the token service
  std::optional<std::string> header_;  // what was used last
  std::chrono::steady_clock::time_point renew_at_{};
  std::vector<Completion<std::string>> waiting_;  // for the header that is being got
};

}  // namespace puzzlefs::fetch
