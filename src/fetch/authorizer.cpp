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
    const Url realm = Url::parse(challenge->parameter("realm"));
    check_realm(registry, realm);
    Url service = realm;
    if (const auto wanted = challenge->parameter("service"); !wanted.empty()) {
      service = service.with_parameter("service", percent_encode(wanted));
    }
    token_service_ = service.with_parameter("scope", percent_encode(scope_));
  }
  challenge_ = std::move(challenge);
}

void Authorizer::authorize(const Patience& patience, Completion<std::string> done) {
  if (!challenge_) return done(std::string());
  const bool bearer = challenge_->scheme == "bearer";
  if (header_ && (!bearer || Clock::now() < renew_at_)) return done(*header_);
  try {
    if (!bearer) {
      header_ = basic_header();
      return done(*header_);
    }
    waiting_.push_back(std::move(done));
    if (waiting_.size() == 1) request_token(patience);
  } catch (const std::exception&) {
    if (!bearer) return done(std::current_exception());
    finish_request(std::current_exception(), {});
  }
}

void Authorizer::forget(const std::string& header) {
  if (header_ == header) header_.reset();
}

// Empty without credentials: the registry may let anyone in. The files are small and local; reading
// them on the loop once per token is no wait worth a worker.
std::string Authorizer::basic_header() const {
  const auto credential = credentials_.find(name_);
  if (!credential) return {};
  return "Authorization: Basic " + base64_encode(credential->user + ":" + credential->password);
}

void Authorizer::request_token(const Patience& patience) {
  HttpRequest request;
  request.url = token_service_->text();
  request.max_body_size = kMaxTokenDocument;
  request.connect_timeout = patience.connect;
  request.stall_timeout = patience.stall;
  if (auto basic = basic_header(); !basic.empty()) request.headers.push_back(std::move(basic));
  send_following(client_, std::move(request),
                 [self = shared_from_this(), asked = Clock::now()](Outcome<Answer> outcome) {
                   self->finish_request(std::move(outcome), asked);
                 });
}

void Authorizer::finish_request(Outcome<Answer> outcome, Clock::time_point asked) {
  const auto waiting = std::exchange(waiting_, {});
  Outcome<std::string> result = std::string();
  try {
    const Token token = accept(std::move(outcome), asked);
    header_ = "Authorization: Bearer " + token.value;
    renew_at_ = token.renew_at;
    result = *header_;
  } catch (const std::exception&) {
    result = std::current_exception();
  }
  for (const auto& done : waiting) done(result);
}

Token Authorizer::accept(Outcome<Answer> outcome, Clock::time_point asked) const {
  const std::string service = "the token service " + printable_url(token_service_->text());
  try {
    const HttpResponse response = std::move(outcome.value().response);
    if (response.status == 200) return parse_token(response.body, asked);
    if (is_busy(response.status)) throw BusyError("The token service", response);
    throw Error(EACCES, "Registry " + name_.host + " gives no access to " + name_.repository +
                            ": " + service + " answers " + explain(response) +
                            ". Log in with \"podman login " + name_.host +
                            "\" or name a file with credentials by --authfile.");
  } catch (const TransportError& error) {
    throw TransportError(error.cause(), "get a token",
                         service + " does not answer: " + error.reason());
  }
}

}  // namespace puzzlefs::fetch
