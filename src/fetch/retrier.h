// Trying anew: backoff, what servers ask for in Retry-After, and deadlines.
#pragma once

#include <chrono>
#include <exception>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <unordered_set>

#include "fetch/outcome.h"
#include "fetch/redirect.h"

namespace boost::asio {
class io_context;
}

namespace puzzlefs::fetch {

/// How long one attempt may hang, so that the last one does not outlast the deadline by much.
struct Patience {
  std::chrono::seconds connect{5};
  std::chrono::seconds stall{30};
};

/// One try of an operation. TransportError and BusyError are worth another one.
using Attempt = std::function<void(const Patience& patience, Completion<Answer> done)>;

/// The operations on one registry. Lives on the loop: all calls from there.
class Retrier : public std::enable_shared_from_this<Retrier> {
 public:
  using Clock = std::chrono::steady_clock;

  /// `host` for messages.
  Retrier(boost::asio::io_context& loop, std::string host);

  /// Tries until an attempt succeeds, fails for good, or fails with the deadline passed: then
  /// `done` gets an UnavailableError that says what the last one failed with. Nothing means no
  /// deadline.
  void run(Attempt attempt, std::optional<Clock::time_point> deadline, Completion<Answer> done);
  /// Fails what waits for its next attempt; nothing is begun or tried anew from now on.
  void close();

 private:
  struct Operation;

  void start(const std::shared_ptr<Operation>& operation);
  void failed(const std::shared_ptr<Operation>& operation, const std::exception_ptr& error);
  bool note_failure(Operation& operation, const std::exception_ptr& error);
  void try_later(const std::shared_ptr<Operation>& operation);
  void wait(const std::shared_ptr<Operation>& operation, Clock::duration delay);
  void give_up(const Operation& operation) const;

  boost::asio::io_context& loop_;
  const std::string host_;
  bool closed_ = false;
  bool reported_ = false;           // that the registry does not answer, since it last did
  Clock::time_point held_until_{};  // the registry asked for quiet until then
  std::unordered_set<std::shared_ptr<Operation>> waiting_;
};

}  // namespace puzzlefs::fetch
