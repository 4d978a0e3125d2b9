// Trying anew: backoff, what servers ask for in Retry-After, and deadlines.
#include "fetch/retrier.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <utility>

#include "fetch/backoff.h"
#include "fetch/registry_errors.h"

namespace puzzlefs::fetch {
namespace {

/// Whoever asks for more is asked again all the same: a mount may live for months, and nobody is
/// there to tell it that all is well.
constexpr std::chrono::seconds kLongestHold{60};

}  // namespace

struct Retrier::Operation {
  Operation(boost::asio::io_context& loop, Attempt what, std::optional<std::chrono::seconds> given,
            Completion<Answer> then)
      : attempt(std::move(what)), span(given), done(std::move(then)), timer(loop) {
    renew();
  }

  // As if it had just begun.
  void renew() {
    if (span) deadline = Clock::now() + *span;
    backoff = Backoff();
  }

  // Nothing stands for ever.
  std::optional<Clock::duration> remaining() const {
    if (!deadline) return std::nullopt;
    return std::max(*deadline - Clock::now(), Clock::duration::zero());
  }

  Patience patience() const {
    Patience result;
    if (const auto left = remaining()) {
      const auto bound =
          std::max(std::chrono::ceil<std::chrono::seconds>(*left), std::chrono::seconds(1));
      result.connect = std::min(result.connect, bound);
      result.stall = std::min(result.stall, bound);
    }
    return result;
  }

  const Attempt attempt;
  const std::optional<std::chrono::seconds> span;
  const Completion<Answer> done;
  const Clock::time_point started = Clock::now();
  boost::asio::steady_timer timer;
  std::optional<Clock::time_point> deadline;
  Backoff backoff;
  int tries = 0;
  std::string failure;  // of the last try: "Cannot reach registry …: Connection refused"
};

Retrier::Retrier(boost::asio::io_context& loop, std::string host, Tries tries)
    : loop_(loop), host_(std::move(host)), tries_(tries) {}

void Retrier::run(Attempt attempt, std::optional<std::chrono::seconds> patience,
                  Completion<Answer> done) {
  if (closed_) {
    return done(std::make_exception_ptr(
        UnavailableError("Cannot reach registry " + host_ + ": The program is finishing.")));
  }
  const auto operation =
      std::make_shared<Operation>(loop_, std::move(attempt), patience, std::move(done));
  if (held_until_ <= Clock::now()) return start(operation);
  operation->failure = "Registry " + host_ + " asks its clients to wait";
  try_later(operation);
}

void Retrier::start(const std::shared_ptr<Operation>& operation) {
  ++operation->tries;
  operation->attempt(operation->patience(),
                     [self = shared_from_this(), operation](Outcome<Answer> outcome) {
                       if (!outcome.ok()) return self->failed(operation, outcome.error());
                       self->reported_ = false;
                       operation->done(std::move(outcome));
                     });
}

void Retrier::failed(const std::shared_ptr<Operation>& operation, const std::exception_ptr& error) {
  if (!note_failure(*operation, error)) return operation->done(error);
  try_later(operation);
}

// Returns whether another try may help.
bool Retrier::note_failure(Operation& operation, const std::exception_ptr& error) {
  try {
    std::rethrow_exception(error);
  } catch (const TransportError& failure) {
    operation.failure = "Cannot reach registry " + host_ + ": " + failure.reason();
    if (dynamic_cast<const ProgressError*>(&failure) != nullptr) operation.renew();
    if (failure.cause() == TransportError::Cause::kTimeout) ++setbacks_;
    return !closed_ && failure.cause() != TransportError::Cause::kClosed;
  } catch (const BusyError& failure) {
    operation.failure = failure.server() + " does not serve just now: " + failure.reason();
    ++setbacks_;
    if (const auto quiet = failure.retry_after()) {
      held_until_ = std::max(held_until_, Clock::now() + std::min(*quiet, kLongestHold));
    }
    return !closed_;
  } catch (const std::exception&) {
    return false;
  }
}

void Retrier::try_later(const std::shared_ptr<Operation>& operation) {
  if (tries_ == Tries::kOnce) return give_up(*operation);
  const Clock::duration held = held_until_ - Clock::now();
  Clock::duration delay = std::max<Clock::duration>(operation->backoff.next(), held);
  if (const auto left = operation->remaining()) {
    if (*left == Clock::duration::zero() || held > *left) return give_up(*operation);
    delay = std::min(delay, *left);
  }
  wait(operation, delay);
}

void Retrier::wait(const std::shared_ptr<Operation>& operation, Clock::duration delay) {
  const auto level = std::exchange(reported_, true) ? spdlog::level::debug : spdlog::level::warn;
  spdlog::log(level, "{}. Trying again.", operation->failure);
  waiting_.insert(operation);
  operation->timer.expires_after(delay);
  operation->timer.async_wait(
      [self = shared_from_this(), operation](const boost::system::error_code&) {
        // The one who takes it out of the set answers for it: close() may have been faster.
        if (self->waiting_.erase(operation) != 0) self->start(operation);
      });
}

void Retrier::give_up(const Operation& operation) const {
  const auto elapsed =
      std::chrono::round<std::chrono::seconds>(Clock::now() - operation.started).count();
  std::string tried;
  if (operation.tries > 0) {
    const std::string times =
        operation.tries == 1 ? "once" : std::to_string(operation.tries) + " times";
    tried = " (tried " + times + " in " + std::to_string(elapsed) + " s)";
  }
  operation.done(std::make_exception_ptr(
      UnavailableError(operation.failure + tried +
                       ". Check the network and that the registry is running, then try again.")));
}

void Retrier::close() {
  closed_ = true;
  for (const auto& operation : std::exchange(waiting_, {})) {
    operation->timer.cancel();
    operation->done(std::make_exception_ptr(UnavailableError(operation->failure + ".")));
  }
}

}  // namespace puzzlefs::fetch
