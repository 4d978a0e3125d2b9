// The certificates of TLS that this machine keeps for single registries, in the directories that
// podman, skopeo and docker share (containers-certs.d(5)).
#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace puzzlefs::fetch {

/// What TLS with one server takes. Empty parts take what the system has.
struct ServerCertificates {
  std::string authorities;   // PEM: trusted for this server besides the system's
  std::string client_chain;  // PEM file: shows the server who we are
  std::string client_key;    // its private key, a PEM file

  bool operator==(const ServerCertificates&) const = default;
};

/// Immutable, thread-safe.
class TlsCertificates {
 public:
  /// `authority` (--tls-ca), a PEM file, is trusted for every server besides what the directories
  /// say. `directories` is for tests; empty takes ~/.config/containers/certs.d,
  /// /etc/containers/certs.d and /etc/docker/certs.d.
  explicit TlsCertificates(std::filesystem::path authority = {},
                           std::vector<std::filesystem::path> directories = {});

  /// For "host" or "host:port": from the first of the directories that has one of that name,
  /// *.crt are authorities, and NAME.cert with NAME.key the client's. Reads the files. Throws
  /// Error, saying which file is missing or cannot be read.
  ServerCertificates find(const std::string& server) const;

 private:
  std::filesystem::path authority_;
  std::vector<std::filesystem::path> directories_;
};

}  // namespace puzzlefs::fetch
