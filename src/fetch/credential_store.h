// Keeping credentials where Credentials finds them: in a file, or with the helper that the file
// names.
#pragma once

#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "fetch/auth_file.h"
#include "fetch/credential.h"
#include "fetch/login_target.h"

namespace puzzlefs::fetch {

/// One file, and the helpers that it names. A file is changed under a lock and written anew as a
/// whole, for its owner alone; a symbolic link stays one. What is malformed is left as it is. All
/// methods block, for 30 s at most for each call of a helper, and throw Error.
class CredentialStore {
 public:
  /// `authfile` (from --authfile), else $REGISTRY_AUTH_FILE, else the first of the default places.
  explicit CredentialStore(std::filesystem::path authfile = {});

  const std::filesystem::path& file() const { return file_; }

  /// Keeps user and password in the helper for the host, or for all hosts, else in the file, which
  /// is made if missing. Returns the helper's name, empty for the file. A helper keeps nothing for
  /// a part of a registry: UsageError.
  std::string store(const LoginTarget& target, const Credential& credential) const;

  /// Removes what is kept for exactly `target`, in the file and by the helpers. Returns whether
  /// there was anything. Throws NotFoundError if a file that the user named is missing.
  bool erase(const LoginTarget& target) const;
  /// Removes all that the file and its helpers keep, and returns what for.
  std::vector<std::string> erase_all() const;

  /// Which of the other default places has something for `target`, to be found now that it is gone
  /// from here.
  std::vector<std::filesystem::path> others_with(const LoginTarget& target) const;

 private:
  std::optional<AuthDocument> read() const;
  void edit(const std::function<bool(AuthDocument&)>& change) const;

  std::filesystem::path file_;
  bool named_ = false;  // by the user
};

}  // namespace puzzlefs::fetch
