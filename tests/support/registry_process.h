// A real registry for tests: the docker-registry command of Debian, on a free port of this machine.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <filesystem>
#include <string>

#include "temp_dir.h"

namespace puzzlefs::test {

/// How a registry is run.
struct RegistrySettings {
  std::string user;  // if not empty, it wants that user's password (Basic)
  std::string password;
  bool tls = false;                       // for the name localhost, with a certificate of its own
  bool wants_client_certificate = false;  // with TLS: that of client_certificate()
};

class RegistryProcess {
 public:
  /// Whether the command is there at all.
  static bool installed();

  /// Starts it and waits until it answers.
  explicit RegistryProcess(const RegistrySettings& settings = {});
  ~RegistryProcess();
  RegistryProcess(const RegistryProcess&) = delete;
  RegistryProcess& operator=(const RegistryProcess&) = delete;

  /// "127.0.0.1:port", with TLS "localhost:port".
  const std::string& host() const { return host_; }
  /// With TLS: the certificate that a client must trust.
  std::filesystem::path certificate() const { return directory_ / "certificate.pem"; }
  /// What it wants to be shown if it wants a client's certificate, and its key.
  std::filesystem::path client_certificate() const { return directory_ / "client.pem"; }
  std::filesystem::path client_key() const { return directory_ / "client-key.pem"; }
  /// Where it keeps the bytes of a blob.
  std::filesystem::path blob_file(const std::string& hex) const;
  /// How many requests of that method it has answered, by its log. Waits until there are `expected`
  /// or some seconds have passed: a line is written after its answer.
  std::size_t count(const std::string& method, std::size_t expected) const;

  void stop();
  /// Starts it again where it was.
  void start();

 private:
  void write_configuration(const RegistrySettings& settings) const;
  bool answers() const;
  std::size_t logged(const std::string& method) const;

  TempDir directory_;
  std::uint16_t port_ = 0;
  std::string host_;
  pid_t process_ = -1;
};

}  // namespace puzzlefs::test
