// Chaining asynchronous steps.
#pragma once

#include <exception>
#include <utility>

#include "fetch/outcome.h"

namespace puzzlefs::fetch {

/// A completion that goes on with `step(value)` and passes errors, those that `step` throws too, to
/// `done`. A step that has handed `done` on must not throw any more.
template <class T, class U, class Step>
Completion<T> then(Completion<U> done, Step step) {
  return [done = std::move(done), step = std::move(step)](Outcome<T> outcome) mutable {
    if (!outcome.ok()) return done(outcome.error());
    try {
      step(std::move(outcome.value()));
    } catch (const std::exception&) {
      done(std::current_exception());
    }
  };
}

}  // namespace puzzlefs::fetch
