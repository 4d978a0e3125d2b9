// What becomes of what nobody waits for any more.
#pragma once

#include <cerrno>
#include <exception>

#include "format/error.h"

namespace puzzlefs::fetch {

/// Whoever asked for something does not want it any more. EINTR.
class GivenUpError : public Error {
 public:
  GivenUpError() : Error(EINTR, "Nobody waits for it any more.") {}
};

/// Null is no error.
inline bool is_given_up(const std::exception_ptr& error) {
  if (!error) return false;
  try {
    std::rethrow_exception(error);
  } catch (const GivenUpError&) {
    return true;
  } catch (...) {
    return false;
  }
}

}  // namespace puzzlefs::fetch
