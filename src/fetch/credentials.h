// User names and passwords for registries, from the files that skopeo, podman and docker share
// (containers-auth.json(5)).
#pragma once

#include <filesystem>
#include <optional>
#include <vector>

#include "fetch/credential.h"
#include "format/image_name.h"

namespace puzzlefs::fetch {

/// Finds the credential for a repository. Reads the files anew at each call, so that a renewed
/// credential reaches a running mount. Immutable, thread-safe.
class Credentials {
 public:
  /// `authfile` (from --authfile), else $REGISTRY_AUTH_FILE, is then the only file looked at;
  /// without one the default places are, in the order of doc/registry.md.
  explicit Credentials(std::filesystem::path authfile = {});
  /// This one, whatever the repository.
  explicit Credentials(Credential credential);

  /// What the first file that has something says: by the helper for the host, the most specific
  /// entry, or the helper for all hosts. A helper that fails is passed over with a warning. Throws
  /// Error if a file named by the user cannot be read or a file is not valid. Blocks as long as the
  /// helpers take, 30 s at most for each answer.
  std::optional<Credential> find(const format::RegistryName& name) const;

 private:
  std::optional<Credential> fixed_;
  std::vector<std::filesystem::path> files_;
  bool named_ = false;  // by the user: a missing file is an error
};

}  // namespace puzzlefs::fetch
