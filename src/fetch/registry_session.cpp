// The conversation with one repository of a registry.
#include "fetch/registry_session.h"

#include <spdlog/spdlog.h>

#include <cerrno>
#include <utility>

#include "fetch/printable.h"
#include "fetch/registry_errors.h"
#include "fetch/then.h"
#include "format/error.h"

namespace puzzlefs::fetch {
namespace {

constexpr std::size_t kMaxWarnings = 16;

}  // namespace

Security security_for(bool insecure, bool plain_http) {
  if (plain_http) return Security::kPlainHttp;
  return insecure ? Security::kInsecure : Security::kTls;
}

struct RegistrySession::Exchange {
  RegistryRequest request;
  Patience patience;
  Completion<Answer> done;
  std::string authorization{};
  bool renewed = false;  // after a 401
};

RegistrySession::RegistrySession(HttpClient& client, format::RegistryName name,
                                 Credentials credentials, std::string scope, Security security)
    : client_(client),
      name_(std::move(name)),
      security_(security),
      authorizer_(
          std::make_shared<Authorizer>(client, std::move(credentials), name_, std::move(scope))) {}

void RegistrySession::connect(const Patience& patience, Completion<Done> done) {
  if (base_) return done(Done{});
  waiting_.push_back(std::move(done));
  if (waiting_.size() > 1) return;
  try {
    ping(Url::parse(origin()), patience);
  } catch (const std::exception&) {
    finish_connect(std::current_exception());
  }
}

std::string RegistrySession::origin() const {
  const std::string scheme = security_ == Security::kPlainHttp ? "http://" : "https://";
  return scheme + name_.connect_host() + "/";
}

HttpRequest RegistrySession::prepared(HttpRequest request, const Patience& patience) const {
  request.connect_timeout = patience.connect;
  request.stall_timeout = patience.stall;
  request.verify_server = security_ != Security::kInsecure;
  return request;
}

void RegistrySession::ping(const Url& base, const Patience& patience) {
  HttpRequest request;
  request.url = base.resolve("v2/").text();
  send_following(client_, prepared(std::move(request), patience),
                 [self = shared_from_this(), base, patience](Outcome<Answer> outcome) {
                   self->finish_ping(base, patience, std::move(outcome));
                 });
}

// Whether there was no TLS to be had, since the other side speaks none or this side cannot, and it
// need not be.
bool RegistrySession::may_do_without_tls(Outcome<Answer>& outcome) const {
  const bool insecure = security_ == Security::kInsecure;
  if (!insecure && !format::is_loopback(name_.connect_host())) return false;
  try {
    outcome.value();
    return false;
  } catch (const TransportError& error) {
    return error.cause() == TransportError::Cause::kTls ||
           (insecure && error.cause() != TransportError::Cause::kClosed);
  } catch (const NoTrustError&) {
    return true;
  } catch (const std::exception&) {
    return false;
  }
}

void RegistrySession::finish_ping(const Url& base, const Patience& patience,
                                  Outcome<Answer> outcome) {
  try {
    if (base.is_https() && may_do_without_tls(outcome)) {
      return ping(Url::parse("http://" + name_.connect_host() + "/"), patience);
    }
    accept_ping(base, outcome.value());
    finish_connect(Done{});
  } catch (const std::exception&) {
    finish_connect(std::current_exception());
  }
}

// Where a registry sends on who greets it is where it is, if that is the same host with encryption.
// Another server must not become the registry: passwords would be sent there.
Url RegistrySession::home(const Url& base, const Answer& answer) const {
  if (answer.url.same_origin(base)) return base;
  const bool encrypted = !base.is_https() && answer.url.is_https();
  if (encrypted && answer.url.host() == base.host()) return answer.url.resolve("/");
  throw Error(EPROTO, "Registry " + name_.host + " sends its clients on to another server, " +
                          printable_url(answer.url.text()) +
                          ": use that one's name if you trust it.");
}

void RegistrySession::accept_ping(const Url& asked, const Answer& answer) {
  const auto& response = answer.response;
  const auto base = home(asked, answer);
  if (is_busy(response.status)) throw BusyError("Registry " + name_.host, response);
  if (response.status == 401) {
    authorizer_->learn(base, response);
  } else if (response.status != 200) {
    throw_refusal(name_, "use registry " + name_.host,
                  name_.host + " is not a registry: it has nothing at " + base.text() + "v2/.",
                  response);
  }
  base_ = base;
}

void RegistrySession::finish_connect(const Outcome<Done>& outcome) {
  for (const auto& done : std::exchange(waiting_, {})) done(outcome);
}

void RegistrySession::exchange(RegistryRequest request, const Patience& patience,
                               Completion<Answer> done) {
  const auto exchange =
      std::make_shared<Exchange>(Exchange{std::move(request), patience, std::move(done)});
  const auto& wanted = exchange->request;
  const bool is_absolute =
      wanted.target.starts_with('/') || wanted.target.find("://") != std::string::npos;
  const bool may_go_first =
      wanted.method == "GET" && wanted.renew && !wanted.on_body && !is_absolute;
  if (!base_ && waiting_.empty() && may_go_first && !std::exchange(went_first_, true)) {
    return send_first(exchange);
  }
  greet_and_send(exchange);
}

// What is asked for first may tell all that a greeting would, which saves a round trip: where the
// registry is, and whether it wants to know who asks.
void RegistrySession::send_first(const std::shared_ptr<Exchange>& exchange) {
  const auto base = Url::parse(origin());
  HttpRequest request;
  request.url = base.resolve("v2/" + name_.repository + "/" + exchange->request.target).text();
  request.headers = exchange->request.headers;
  request.max_body_size = exchange->request.max_body_size;
  request.control = exchange->request.control;
  send_following(client_, prepared(std::move(request), exchange->patience),
                 [self = shared_from_this(), exchange, base](Outcome<Answer> outcome) {
                   self->receive_first(exchange, base, outcome);
                 });
}

void RegistrySession::receive_first(const std::shared_ptr<Exchange>& exchange, const Url& base,
                                    Outcome<Answer>& outcome) {
  if (!outcome.ok()) {
    const bool speaks_otherwise = base.is_https() && may_do_without_tls(outcome);
    return speaks_otherwise ? greet_and_send(exchange) : exchange->done(std::move(outcome));
  }
  auto& answer = outcome.value();
  const int status = answer.response.status;
  // One that hides from strangers what it has may say "not found": only a greeting tells then.
  const bool is_telling = status == 200 || status == 401;
  if (base_ || !is_telling || !answer.url.same_origin(base)) return greet_and_send(exchange);
  base_ = base;
  try {
    if (status != 401) return receive(exchange, std::move(answer));
    authorizer_->learn(base, answer.response);
    authorize(exchange);
  } catch (const std::exception&) {
    exchange->done(std::current_exception());
  }
}

void RegistrySession::greet_and_send(const std::shared_ptr<Exchange>& exchange) {
  connect(exchange->patience, then<Done>(exchange->done, [self = shared_from_this(), exchange](
                                                             Done) { self->authorize(exchange); }));
}

void RegistrySession::authorize(const std::shared_ptr<Exchange>& exchange) {
  authorizer_->authorize(exchange->patience,
                         then<std::string>(exchange->done, [self = shared_from_this(),
                                                            exchange](std::string authorization) {
                           self->send(exchange, std::move(authorization));
                         }));
}

void RegistrySession::send(const std::shared_ptr<Exchange>& exchange, std::string authorization) {
  const RegistryRequest& wanted = exchange->request;
  const bool absolute = wanted.target.find("://") != std::string::npos;
  const bool rooted = wanted.target.starts_with('/');
  const Url url =
      absolute
          ? Url::parse(wanted.target)
          : base_->resolve(rooted ? wanted.target : "v2/" + name_.repository + "/" + wanted.target);
  HttpRequest request;
  request.method = wanted.method;
  request.url = url.text();
  request.headers = wanted.headers;
  request.body = wanted.body;
  request.max_body_size = wanted.max_body_size;
  request.on_body = wanted.on_body;
  request.control = wanted.control;
  exchange->authorization = std::move(authorization);
  if (!exchange->authorization.empty() && url.same_origin(*base_)) {
    request.headers.push_back(exchange->authorization);
  }
  send_following(client_, prepared(std::move(request), exchange->patience),
                 then<Answer>(exchange->done, [self = shared_from_this(), exchange](Answer answer) {
                   self->receive(exchange, std::move(answer));
                 }));
}

void RegistrySession::receive(const std::shared_ptr<Exchange>& exchange, Answer answer) {
  const HttpResponse& response = answer.response;
  show_warning(response);
  if (is_busy(response.status)) {
    const bool own = answer.url.same_origin(*base_);
    throw BusyError(own ? "Registry " + name_.host : "Storage host " + answer.url.server(),
                    response);
  }
  // Refused by the registry itself, not by a storage host that knows nothing of our tokens.
  if (response.status == 401 && exchange->request.renew && !exchange->renewed &&
      answer.url.same_origin(*base_)) {
    exchange->renewed = true;
    if (response.headers.contains("www-authenticate")) authorizer_->learn(*base_, response);
    authorizer_->forget(exchange->authorization);
    return authorize(exchange);
  }
  exchange->done(std::move(answer));
}

void RegistrySession::show_warning(const HttpResponse& response) {
  const auto [first, last] = response.headers.equal_range("warning");
  for (auto header = first; header != last; ++header) {
    if (!header->second.starts_with("299 ") || warnings_.size() == kMaxWarnings) continue;
    const std::string text = printable(header->second.substr(4));
    if (warnings_.insert(text).second) {
      spdlog::warn("Registry {} says: {}", name_.host, text);
    }
  }
}

}  // namespace puzzlefs::fetch
