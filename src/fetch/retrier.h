// Trying anew: backoff, what servers ask for in Retry-After, and deadlines.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
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

/// An attempt that failed, but left the operation further than it was: a part of the bytes came.
class ProgressError : public TransportError {
 public:
  explicit ProgressError(const TransportError& failure) : TransportError(failure) {}
};

/// One try of an operation. TransportError and BusyError are worth another one.
using Attempt = std::function<void(const Patience& patience, Completion<Answer> done)>;

/// The operations on one registry. Lives on the loop: all calls from there.
class Retrier : public std::enable_shared_from_this<Retrier> {
 public:
  using Clock = std::chrono::steady_clock;
  enum class Tries { kUntilDeadline, kOnce };

  /// `host` for messages. Nothing is tried anew with kOnce, nor is it logged that it failed.
  Retrier(boost::asio::io_context& loop, std::string host, Tries tries = Tries::kUntilDeadline);

  /// Tries until an attempt succeeds, fails for good, or fails with the deadline passed: then
  /// `done` gets an UnavailableError that says what the last one failed with. The deadline is
  /// `patience` from now, and again from each ProgressError; nothing means that there is none.
  void run(Attempt attempt, std::optional<std::chrono::seconds> patience, Completion<Answer> done);
  /// How often so far an attempt failed because of too much, or might have: a server said "later",
  /// or nothing came in time. From any thread.
  std::uint64_t setbacks() const { return setbacks_.load(std::memory_order_relaxed); }
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
  const Tries tries_;
  bool closed_ = false;
  bool reported_ = false;           // that the registry does not answer, since it last did
  Clock::time_point held_until_{};  // the registry asked for quiet until then
  std::unordered_set<std::shared_ptr<Operation>> waiting_;
  std::atomic<std::uint64_t> setbacks_ = 0;
};

}  // namespace puzzlefs::fetch
