// Whether a registry knows a user and a password.
#pragma once

#include <chrono>
#include <optional>

#include "fetch/credential.h"
#include "fetch/http_client.h"
#include "fetch/login_target.h"
#include "fetch/registry.h"

namespace puzzlefs::fetch {

enum class LoginCheck {
  kAccepted,
  kNotAsked,  // the registry lets anybody in, and was not told who asks
};

/// Asks the registry of `target`, or its token service, with user and password; the credentials and
/// the deadline of `options` do not count. Throws RefusedError
/// if they are not accepted, UnavailableError if there is no answer by the deadline, Error for one
/// that is no registry's. Blocks; not for the loop or a worker.
LoginCheck check_login(HttpClient& client, const LoginTarget& target, const Credential& credential,
                       const RegistryOptions& options,
                       std::chrono::seconds deadline = std::chrono::seconds(20));

}  // namespace puzzlefs::fetch
