// Programs that keep passwords for docker and podman: docker-credential-NAME
// (https://github.com/docker/docker-credential-helpers).
#pragma once

#include <optional>
#include <string>

#include "fetch/credentials.h"

namespace puzzlefs::fetch {

/// What docker-credential-`helper` has for `server`; nothing if it has none. Throws Error if the
/// program is missing, fails, answers what it should not, or takes longer than 30 s. Blocks.
std::optional<Credential> ask_credential_helper(const std::string& helper,
                                                const std::string& server);

}  // namespace puzzlefs::fetch
