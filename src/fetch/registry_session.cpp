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

HttpRequest with_patience(HttpRequest request, const Patience& patience) {
  request.connect_timeout = patience.connect;
  request.stall_timeout = patience.stall;
  return request;
}

/// Whether there was no TLS to be had: the other side speaks none, or this side cannot.
bool is_tls_failure(Outcome<Answer>& outcome) {
  try {
    outcome.value();
    return false;
  } catch (const TransportError& error) {
    return error.cause() == TransportError::Cause::kTls;
  } catch (const NoTrustError&) {
    return true;
  } catch (const std::exception&) {
    return false;
  }
}

}  // namespace

struct RegistrySession::Exchange {
  RegistryRequest request;
  Patience patience;
  Completion<Answer> done;
  std::string authorization{};
  bool renewed = false;  // after a 401
};

RegistrySession::RegistrySession(HttpClient& client, format::RegistryName name,
                                 Credentials credentials, std::string scope, bool plain_http)
    : client_(client),
      name_(std::move(name)),
      plain_http_(plain_http),
      authorizer_(
          std::make_shared<Authorizer>(client, std::move(credentials), name_, std::move(scope))) {}

void RegistrySession::connect(const Patience& patience, Completion<Done> done) {
  if (base_) return done(Done{});
  waiting_.push_back(std::move(done));
  if (waiting_.size() > 1) return;
  try {
    const std::string scheme = plain_http_ ? "http://" : "https://";
    ping(Url::parse(scheme + name_.connect_host() + "/"), patience);
  } catch (const std::exception&) {
    finish_connect(std::current_exception());
  }
}

void RegistrySession::ping(const Url& base, const Patience& patience) {
  HttpRequest request;
  request.url = base.resolve("v2/").text();
  send_following(client_, with_patience(std::move(request), patience),
                 [self = shared_from_this(), base, patience](Outcome<Answer> outcome) {
                   self->finish_ping(base, patience, std::move(outcome));
                 });
}

void RegistrySession::finish_ping(const Url& base, const Patience& patience,
                                  Outcome<Answer> outcome) {
  try {
    if (base.is_https() && format::is_loopback(name_.connect_host()) && is_tls_failure(outcome)) {
      return ping(Url::parse("http://" + name_.connect_host() + "/"), patience);
    }
    accept_ping(base, outcome.value());
    finish_connect(Done{});
  } catch (const std::exception&) {
    finish_connect(std::current_exception());
  }
}

void RegistrySession::accept_ping(const Url& base, const Answer& answer) {
  const auto& response = answer.response;
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
  connect(patience, then<Done>(exchange->done, [self = shared_from_this(), exchange](Done) {
            self->authorize(exchange);
          }));
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
  const Url url = absolute ? Url::parse(wanted.target)
                           : base_->resolve("v2/" + name_.repository + "/" + wanted.target);
  HttpRequest request;
  request.method = wanted.method;
  request.url = url.text();
  request.headers = wanted.headers;
  request.body = wanted.body;
  request.max_body_size = wanted.max_body_size;
  exchange->authorization = std::move(authorization);
  if (!exchange->authorization.empty() && url.same_origin(*base_)) {
    request.headers.push_back(exchange->authorization);
  }
  send_following(client_, with_patience(std::move(request), exchange->patience),
                 then<Answer>(exchange->done, [self = shared_from_this(), exchange](Answer answer) {
                   self->receive(exchange, std::move(answer));
                 }));
}

void RegistrySession::receive(const std::shared_ptr<Exchange>& exchange, Answer answer) {
  const HttpResponse& response = answer.response;
  show_warning(response);
  if (is_busy(response.status)) throw BusyError("Registry " + name_.host, response);
  // Refused by the registry itself, not by a storage host that knows nothing of our tokens.
  if (response.status == 401 && !exchange->renewed && answer.url.same_origin(*base_)) {
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
