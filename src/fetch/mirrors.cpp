#include "fetch/mirrors.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <optional>
#include <string>
#include <utility>

#include "fetch/registry_errors.h"

namespace puzzlefs::fetch {
namespace {

using std::chrono::seconds;

constexpr seconds kFirstPause{10};
constexpr seconds kLongestPause{5 * 60};
/// There is somebody else to ask.
constexpr seconds kLongestStall{10};

/// Answers are verified soon after they came: no need to know for long who gave them.
constexpr std::size_t kMaxSenders = 1024;

/// The client is being destroyed, and must not be asked for anything any more.
bool is_closed(const std::exception_ptr& error) {
  if (!error) return false;
  try {
    std::rethrow_exception(error);
  } catch (const TransportError& failure) {
    return failure.cause() == TransportError::Cause::kClosed;
  } catch (const std::exception&) {
    return false;
  }
}

bool serves(Outcome<Answer>& outcome) {
  return outcome.ok() && outcome.value().response.status == 200;
}

}  // namespace

struct Mirrors::Attempt {
  Request request;
  std::string what;
  Patience patience;
  Completion<Answer> done;
  bool judges = true;
  std::vector<Server*> order;                // those that have not been asked
  std::optional<Outcome<Answer>> refusal{};  // the registry's, once it was asked
};

Mirrors::Mirrors(std::vector<Mirror> mirrors, std::shared_ptr<RegistrySession> registry)
    : registry_{{std::move(registry)}} {
  for (auto& mirror : mirrors) mirrors_.push_back({std::move(mirror)});
}

void Mirrors::attempt(Request request, const Wanted& wanted, const Patience& patience,
                      Completion<Answer> done) {
  const auto attempt =
      std::make_shared<Attempt>(Attempt{std::move(request), wanted.what, patience, std::move(done),
                                        wanted.judges, order_for(wanted)});
  ask_next(attempt);
}

std::vector<Mirrors::Server*> Mirrors::order_for(const Wanted& wanted) {
  const bool past_caches = wanted.freshness == Freshness::kBypass;
  if (const auto liar = senders_.extract(wanted.what); past_caches && !liar.empty()) {
    pass_over(*liar.mapped(), "it sends wrong bytes", seconds(0));
  }
  const auto other = wanted.by == By::kTag ? PullFromMirror::kDigestOnly : PullFromMirror::kTagOnly;
  std::vector<Server*> usable;
  std::vector<Server*> passed_over;
  for (auto& server : mirrors_) {
    if (server.mirror.use == other) continue;
    (server.down_until <= Clock::now() ? usable : passed_over).push_back(&server);
  }
  if (!past_caches) {
    usable.push_back(&registry_);
    return usable;
  }
  std::vector<Server*> order{&registry_};
  order.insert(order.end(), usable.begin(), usable.end());
  order.insert(order.end(), passed_over.begin(), passed_over.end());
  return order;
}

void Mirrors::ask_next(const std::shared_ptr<Attempt>& attempt) {
  if (attempt->order.empty()) return attempt->done(std::move(*attempt->refusal));
  Server& server = *attempt->order.front();
  attempt->order.erase(attempt->order.begin());
  auto patience = attempt->patience;
  if (&server != &registry_) patience.stall = std::min(patience.stall, kLongestStall);
  attempt->request(server.mirror.session, patience,
                   [self = shared_from_this(), attempt, &server](Outcome<Answer> outcome) {
                     self->receive(attempt, server, outcome);
                   });
}

void Mirrors::receive(const std::shared_ptr<Attempt>& attempt, Server& server,
                      Outcome<Answer>& outcome) {
  if (is_closed(outcome.error())) return attempt->done(std::move(outcome));
  if (serves(outcome)) {
    note_served(server);
    remember(attempt->what, server);
    return attempt->done(std::move(outcome));
  }
  if (&server == &registry_) {
    attempt->refusal = std::move(outcome);
  } else if (attempt->judges) {
    note_failure(server, outcome);
  }
  ask_next(attempt);
}

void Mirrors::remember(const std::string& what, Server& server) {
  if (&server == &registry_) return;
  if (senders_.size() >= kMaxSenders) senders_.clear();
  senders_[what] = &server;
}

void Mirrors::note_served(Server& server) {
  if (std::exchange(server.down_for, seconds(0)) == seconds(0)) return;
  spdlog::info("The mirror {} serves again.", server.mirror.session->name().host);
}

// That a mirror does not have something yet says nothing about all the rest.
void Mirrors::note_failure(Server& server, Outcome<Answer>& outcome) {
  try {
    const auto& answer = outcome.value();
    if (answer.response.status == 404) return;
    pass_over(server, explain(answer.response), seconds(0));
  } catch (const TransportError& error) {
    pass_over(server, error.reason(), seconds(0));
  } catch (const BusyError& error) {
    pass_over(server, error.reason(), error.retry_after().value_or(seconds(0)));
  } catch (const std::exception& error) {
    pass_over(server, error.what(), seconds(0));
  }
}

void Mirrors::pass_over(Server& server, const std::string& why, seconds at_least) {
  const auto now = Clock::now();
  if (server.down_until > now) return;  // requests that were under way together fail together
  const auto level = server.down_for == seconds(0) ? spdlog::level::warn : spdlog::level::debug;
  server.down_for = std::clamp(std::max(2 * server.down_for, at_least), kFirstPause, kLongestPause);
  server.down_until = now + server.down_for;
  spdlog::log(level, "The mirror {} does not serve ({}). Passing it over for {} s.",
              server.mirror.session->name().host, why, server.down_for.count());
}

}  // namespace puzzlefs::fetch
