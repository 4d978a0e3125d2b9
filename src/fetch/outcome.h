// The result of an asynchronous operation: a value or the error that took its place.
#pragma once

#include <exception>
#include <functional>
#include <future>
#include <memory>
#include <utility>
#include <variant>

namespace puzzlefs::fetch {

/// The value of an operation without a result.
struct Done {};

/// A value or an exception.
template <class T>
class Outcome {
 public:
  Outcome(T value) : state_(std::move(value)) {}
  Outcome(std::exception_ptr error) : state_(std::move(error)) {}

  bool ok() const { return state_.index() == 0; }
  /// The error; null if there is a value.
  std::exception_ptr error() const { return ok() ? nullptr : std::get<1>(state_); }
  /// The value; throws the error if there is none.
  T& value() {
    if (!ok()) std::rethrow_exception(std::get<1>(state_));
    return std::get<0>(state_);
  }

 private:
  std::variant<T, std::exception_ptr> state_;
};

/// Called exactly once, on whichever thread finished the operation; must not block or throw.
template <class T>
using Completion = std::function<void(Outcome<T>)>;

/// Runs `start(completion)` and waits for its outcome: the bridge for commands, which have nothing
/// else to do. Never call it on the loop's thread or on a worker.
template <class T, class Start>
T wait_for(Start&& start) {
  auto promise = std::make_shared<std::promise<Outcome<T>>>();
  auto future = promise->get_future();
  std::forward<Start>(start)(
      Completion<T>([promise](Outcome<T> outcome) { promise->set_value(std::move(outcome)); }));
  auto outcome = future.get();
  return std::move(outcome.value());
}

}  // namespace puzzlefs::fetch
