// What one logs in to, and what that is called in files and by credential helpers.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace puzzlefs::fetch {

/// A registry, or the part of one below a path.
struct LoginTarget {
  std::string host;  // as in format::RegistryName
  std::string path;  // "team", "team/app"; empty for all of the registry

  /// "host" or "host/path": its key in `auths`.
  std::string key() const;

  bool operator==(const LoginTarget&) const = default;
};

/// HOST[:PORT][/PATH], or a URL, of which only the host counts. Docker Hub is docker.io by all its
/// names. Throws UsageError.
LoginTarget parse_login_target(std::string_view text);

/// The host of a URL, such as the key "https://index.docker.io/v1/"; empty for other texts.
std::string host_of_url(std::string_view text);

/// Whether that is one of Docker Hub's hosts.
bool is_docker_hub(std::string_view host);

/// All that a host is called in `credHelpers`: itself, or the names of Docker Hub.
std::vector<std::string> names_of_host(const std::string& host);

/// What a helper may know a host as: docker calls its Hub by its old name, podman and skopeo by the
/// one that images have.
std::vector<std::string> servers_of_host(const std::string& host);

}  // namespace puzzlefs::fetch
