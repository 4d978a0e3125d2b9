// How one repository's requests are authorised. Headers, tokens and passwords are never logged.
#include "fetch/authorizer.h"

#include <algorithm>
#include <cerrno>
#include <nlohmann/json.hpp>
#include <utility>

#include "fetch/base64.h"
#include "fetch/printable.h"
#include "fetch/redirect.h"
#include "fetch/registry_errors.h"
#include "format/error.h"

namespace puzzlefs::fetch {
namespace {

using Json = nlohmann::json;
using Clock = std::chrono::steady_clock;

constexpr std::size_t kMaxTokenDocument = 64 << 10;
constexpr std::chrono::seconds kMinLifetime{60};
constexpr std::chrono::seconds kMaxLifetime{24 * 60 * 60};

std::optional<AuthChallenge> choose(const HttpResponse& refusal) {
  std::optional<AuthChallenge> chosen;
  const auto [first, last] = refusal.headers.equal_range("www-authenticate");
  for (auto header = first; header != last; ++header) {
    for (auto& challenge : parse_challenges(header->second)) {
      if (challenge.scheme == "bearer") return challenge;
      if (challenge.scheme == "basic" && !chosen) chosen = std::move(challenge);
    }
  }
  return chosen;
}

std::string token_member(const Json& document) {
  for (const char* name : {"token", "access_token"}) {
    const auto found = document.find(name);
    if (found != document.end() && found->is_string() &&
        !found->get_ref<const std::string&>().empty()) {
      return found->get<std::string>();
    }
  }
  return {};
}

// Empty without credentials: the registry may let anyone in.
std::string basic_header(const std::optional<Credential>& credential) {
  if (!credential || credential->user.empty()) return {};
  return "Authorization: Basic " + base64_encode(credential->user + ":" + credential->password);
}

// `url` with a parameter for each of the scopes, which spaces separate.
Url with_scopes(Url url, std::string_view scopes) {
  for (;;) {
    const auto space = scopes.find(' ');
    url = url.with_parameter("scope", percent_encode(scopes.substr(0, space)));
    if (space == std::string_view::npos) return url;
    scopes.remove_prefix(space + 1);
  }
}

// With a password or nothing at all by the "Token Authentication Specification", with an identity
// token by its "OAuth2 Token Authentication".
HttpRequest token_request(const Url& realm, const std::string& service, const std::string& scope,
                          const std::optional<Credential>& credential) {
  HttpRequest request;
  if (credential && !credential->identity_token.empty()) {
    const auto form =
        "grant_type=refresh_token&client_id=puzzlefs&service=" + percent_encode(service) +
        (scope.empty() ? scope : "&scope=" + percent_encode(scope)) +
        "&refresh_token=" + percent_encode(credential->identity_token);
    const auto bytes = as_bytes(form);
    request.method = "POST";
    request.url = realm.text();
    request.headers.emplace_back("Content-Type: application/x-www-form-urlencoded");
    request.body = std::make_shared<const Bytes>(bytes.begin(), bytes.end());
    return request;
  }
  Url url = service.empty() ? realm : realm.with_parameter("service", percent_encode(service));
  if (!scope.empty()) url = with_scopes(std::move(url), scope);
  request.url = url.text();
  if (auto basic = basic_header(credential); !basic.empty()) {
    request.headers.push_back(std::move(basic));
  }
  return request;
}

}  // namespace

Token parse_token(ByteView document, Clock::time_point asked) {
  const Json value = Json::parse(as_text(document), nullptr, false);
  std::string token = value.is_object() ? token_member(value) : std::string();
  // It becomes part of a header.
  const bool clean =
      std::all_of(token.begin(), token.end(), [](char c) { return c > 0x20 && c < 0x7f; });
  if (token.empty() || !clean) throw CorruptError("The token service's answer holds no token.");
  auto lifetime = kMinLifetime;
  const auto expires = value.find("expires_in");
  if (expires != value.end() && expires->is_number_integer()) {
    const auto given = expires->is_number_unsigned() && expires->get<std::uint64_t>() > 1'000'000
                           ? kMaxLifetime
                           : std::chrono::seconds(expires->get<std::int64_t>());
    lifetime = std::clamp(given, kMinLifetime, kMaxLifetime);
  }
  const auto early = std::min<std::chrono::seconds>(lifetime / 5, std::chrono::seconds(30));
  return {std::move(token), asked + lifetime - early};
}

void check_realm(const Url& registry, const Url& realm) {
  if (registry.is_https() && !realm.is_https()) {
    throw Error(EPROTO, "The registry names a token service without encryption, " +
                            printable_url(realm.text()) + ": refused.");
  }
  const bool same_machine =
      realm.host() == registry.host() ||
      (format::is_loopback(realm.host()) && format::is_loopback(registry.host()));
  if (is_private_host(realm.host()) && !same_machine) {
    throw Error(EPROTO, "The registry names a token service in a private network, " +
                            printable_url(realm.text()) + ": refused.");
  }
}

Authorizer::Authorizer(HttpClient& client, Credentials credentials, format::RegistryName name,
                       std::string scope)
    : client_(client),
      credentials_(std::move(credentials)),
      name_(std::move(name)),
      scope_(std::move(scope)) {}

void Authorizer::learn(const Url& registry, const HttpResponse& refusal) {
  auto challenge = choose(refusal);
  if (!challenge) {
    throw Error(EACCES, "Registry " + name_.host +
                            " wants a kind of authentication that is neither Basic nor Bearer: " +
                            explain(refusal) + ".");
  }
  if (challenge->scheme == "bearer") {
    Url realm = Url::parse(challenge->parameter("realm"));
    check_realm(registry, realm);
    realm_ = std::move(realm);
  }
  challenge_ = std::move(challenge);
}

void Authorizer::authorize(const Patience& patience, Completion<std::string> done) {
  if (!challenge_) return done(std::string());
  const bool bearer = challenge_->scheme == "bearer";
  if (header_ && (!bearer || Clock::now() < renew_at_)) return done(*header_);
  waiting_.push_back(std::move(done));
  if (waiting_.size() == 1) find_credential(patience);
}

void Authorizer::forget(const std::string& header) {
  if (header_ == header) header_.reset();
}

void Authorizer::find_credential(const Patience& patience) {
  using Found = Outcome<std::optional<Credential>>;
  const auto found = std::make_shared<Found>(std::optional<Credential>());
  const auto find = [self = shared_from_this(), found] {
    try {
      *found = self->credentials_.find(self->name_);
    } catch (const std::exception&) {
      *found = std::current_exception();
    }
  };
  client_.run_aside(find, [self = shared_from_this(), found, patience](Outcome<Done> outcome) {
    try {
      outcome.value();
      self->use(found->value(), patience);
    } catch (const std::exception&) {
      self->finish(std::current_exception());
    }
  });
}

void Authorizer::use(const std::optional<Credential>& credential, const Patience& patience) {
  if (challenge_->scheme == "bearer") return request_token(credential, patience);
  header_ = basic_header(credential);
  finish(*header_);
}

void Authorizer::request_token(const std::optional<Credential>& credential,
                               const Patience& patience) {
  auto request = token_request(*realm_, challenge_->parameter("service"), scope_, credential);
  request.max_body_size = kMaxTokenDocument;
  request.connect_timeout = patience.connect;
  request.stall_timeout = patience.stall;
  // The identity token is in the body, and check_realm() knew nothing of other servers.
  send_following(
      client_, std::move(request),
      [self = shared_from_this(), asked = Clock::now()](Outcome<Answer> outcome) {
        self->finish_request(std::move(outcome), asked);
      },
      Reach::kSameOrigin);
}

void Authorizer::finish(Outcome<std::string> header) {
  for (const auto& done : std::exchange(waiting_, {})) done(header);
}

void Authorizer::finish_request(Outcome<Answer> outcome, Clock::time_point asked) {
  try {
    const Token token = accept(std::move(outcome), asked);
    header_ = "Authorization: Bearer " + token.value;
    renew_at_ = token.renew_at;
  } catch (const std::exception&) {
    return finish(std::current_exception());
  }
  finish(*header_);
}

Token Authorizer::accept(Outcome<Answer> outcome, Clock::time_point asked) const {
  const std::string service = "the token service " + printable_url(realm_->text());
  try {
    const HttpResponse response = std::move(outcome.value().response);
    if (response.status == 200) return parse_token(response.body, asked);
    if (is_busy(response.status)) throw BusyError("The token service", response);
    const std::string reason = service + " answers " + explain(response);
    throw RefusedError("Registry " + name_.host + " gives no access to " + name_.repository + ": " +
                           reason + ". " + login_advice(name_.host),
                       reason);
  } catch (const TransportError& error) {
    throw TransportError(error.cause(), "get a token",
                         service + " does not answer: " + error.reason());
  }
}

}  // namespace puzzlefs::fetch
