// The files in which skopeo, podman and docker keep credentials (containers-auth.json(5)): where
// they are, and what one says.
#pragma once

#include <filesystem>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "fetch/credential.h"
#include "fetch/login_target.h"
#include "format/bytes.h"
#include "format/image_name.h"

namespace puzzlefs::fetch {

/// The file that the user names: `option`, else $REGISTRY_AUTH_FILE; empty if there is none. It is
/// made absolute, since a mount in the background works elsewhere.
std::filesystem::path named_auth_file(std::filesystem::path option);
/// Where credentials are looked for by default, in this order; new ones go into the first.
std::vector<std::filesystem::path> default_auth_files();

/// A helper of a file, and what it may know a host as: the first is what is told it.
struct HostHelper {
  std::string name;
  std::vector<std::string> servers;
};

/// What such a file holds. Members that are not known here are kept. All methods throw
/// CorruptError, naming the file and quoting nothing of it, where it is malformed.
class AuthDocument {
 public:
  /// Reads the file; an empty one is an empty document. Throws as read_file().
  static AuthDocument read(const std::filesystem::path& file);
  /// An empty one; `file` for messages.
  explicit AuthDocument(std::filesystem::path file);
  ~AuthDocument();
  AuthDocument(AuthDocument&& other) noexcept;
  AuthDocument& operator=(AuthDocument&& other) noexcept;

  /// The helper that `credHelpers` names for the host.
  std::optional<HostHelper> helper_for(const std::string& host) const;
  /// The one for all hosts, `credsStore`.
  std::optional<HostHelper> helper_for_all(const std::string& host) const;
  /// The hosts that `credHelpers` names.
  std::vector<std::string> hosts_with_helper() const;
  /// The most specific entry of `auths` that has a secret.
  std::optional<Credential> find(const format::RegistryName& name) const;

  /// Makes user and password the entry of `target`.
  void put(const LoginTarget& target, const Credential& credential);
  /// Removes the entries of `target`, those with a secret or all of them; of a whole registry also
  /// those by its other names and by URLs. Returns whether there was one.
  enum class Entries { kSecret, kAll };
  bool remove(const LoginTarget& target, Entries entries);
  /// Removes all entries, and returns their keys.
  std::vector<std::string> remove_all();

  std::string text() const;

 private:
  std::filesystem::path file_;
  std::unique_ptr<nlohmann::ordered_json> document_;  // an object
};

}  // namespace puzzlefs::fetch
