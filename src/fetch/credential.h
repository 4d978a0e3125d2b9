// Who one is to a registry.
#pragma once

#include <string>

namespace puzzlefs::fetch {

/// A user with a password, or an identity token, which a token service takes in their place (OAuth2
/// refresh token).
struct Credential {
  std::string user;
  std::string password;
  std::string identity_token;
};

}  // namespace puzzlefs::fetch
