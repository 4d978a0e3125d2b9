// The WWW-Authenticate header: how a server wants to be convinced (RFC 9110, 11.6.1).
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace puzzlefs::fetch {

struct AuthChallenge {
  std::string scheme;                             // in lower case: "bearer", "basic"
  std::map<std::string, std::string> parameters;  // names in lower case

  /// The parameter of that name, or an empty string.
  std::string parameter(const std::string& name) const;

  bool operator==(const AuthChallenge&) const = default;
};

/// All challenges of one header; what is malformed is left out.
std::vector<AuthChallenge> parse_challenges(std::string_view header);

}  // namespace puzzlefs::fetch
