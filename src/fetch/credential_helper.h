// Programs that keep passwords for docker and podman: docker-credential-NAME
// (https://github.com/docker/docker-credential-helpers). All that is said to them and by them goes
// through pipes; their arguments and environment hold no secret.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "fetch/credential.h"

namespace puzzlefs::fetch {

// All throw Error if the program is missing, fails, answers what it should not, or takes longer
// than 30 s. All block.

/// What docker-credential-`helper` has for `server`; nothing if it has none.
std::optional<Credential> ask_credential_helper(const std::string& helper,
                                                const std::string& server);
/// Lets it keep user and password.
void store_in_credential_helper(const std::string& helper, const std::string& server,
                                const Credential& credential);
/// Lets it forget what it has for `server`.
void erase_from_credential_helper(const std::string& helper, const std::string& server);
/// The servers for which it has something.
std::vector<std::string> list_credential_helper(const std::string& helper);

}  // namespace puzzlefs::fetch
