// User names and passwords for registries, from the files that skopeo, podman and docker share
// (containers-auth.json(5)).
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "format/image_name.h"

namespace puzzlefs::fetch {

struct Credential {
  std::string user;
  std::string password;
};

/// Finds the credential for a repository. Reads the files anew at each call, so that a renewed
/// credential reaches a running mount. Immutable, thread-safe.
class Credentials {
 public:
  /// `authfile` (from --authfile), else $REGISTRY_AUTH_FILE, is then the only file looked at;
  /// without one the default places are, in the order of doc/registry.md.
  explicit Credentials(std::filesystem::path authfile = {});

  /// The most specific entry of the first file that has one. Throws Error if a file named by the
  /// user cannot be read or a file is not valid.
  std::optional<Credential> find(const format::RegistryName& name) const;

 private:
  std::vector<std::filesystem::path> files_;
  bool named_ = false;  // by the user: a missing file is an error
};

}  // namespace puzzlefs::fetch
