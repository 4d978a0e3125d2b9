#include "registry_process.h"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <chrono>
#include <cstdlib>
#include <fstream>
#include <stdexcept>
#include <thread>

#include "scripted_server.h"

namespace puzzlefs::test {
namespace {

constexpr const char* kCommand = "/usr/bin/docker-registry";

void run(const std::string& command) {
  if (std::system(command.c_str()) != 0) throw std::runtime_error("failed: " + command);
}

/// One that is its own authority.
void make_certificate(const std::string& name, const std::filesystem::path& certificate,
                      const std::filesystem::path& key) {
  run("openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj "
      "/CN=" +
      name + " -addext subjectAltName=DNS:" + name + " -keyout " + key.string() + " -out " +
      certificate.string() + " 2>/dev/null");
}

}  // namespace

bool RegistryProcess::installed() {
  return ::access(kCommand, X_OK) == 0;
}

RegistryProcess::RegistryProcess(const RegistrySettings& settings)
    : port_(free_port()),
      host_((settings.tls ? "localhost:" : "127.0.0.1:") + std::to_string(port_)) {
  write_configuration(settings);
  start();
}

RegistryProcess::~RegistryProcess() {
  stop();
}

void RegistryProcess::write_configuration(const RegistrySettings& settings) const {
  std::ofstream file(directory_ / "registry.yml");
  file << "version: 0.1\n"
       << "storage:\n"
       << "  filesystem: {rootdirectory: " << (directory_ / "data").string() << "}\n"
       << "  delete: {enabled: true}\n";
  if (!settings.user.empty()) {
    const auto passwords = (directory_ / "htpasswd").string();
    run("htpasswd -Bbn -C 4 '" + settings.user + "' '" + settings.password + "' > " + passwords);
    file << "auth: {htpasswd: {realm: test, path: " << passwords << "}}\n";
  }
  file << "http:\n  addr: 127.0.0.1:" << port_ << "\n";
  if (settings.tls) {
    const auto key = directory_ / "key.pem";
    make_certificate("localhost", certificate(), key);
    file << "  tls:\n    certificate: " << certificate().string() << "\n    key: " << key.string()
         << "\n";
  }
  if (settings.wants_client_certificate) {
    make_certificate("client", client_certificate(), client_key());
    file << "    clientcas: [" << client_certificate().string() << "]\n";
  }
}

void RegistryProcess::start() {
  const auto log = (directory_ / "log").string();
  const auto configuration = (directory_ / "registry.yml").string();
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, log.c_str(),
                                   O_WRONLY | O_CREAT | O_APPEND, 0644);
  posix_spawn_file_actions_adddup2(&actions, STDOUT_FILENO, STDERR_FILENO);
  std::array<std::string, 3> words = {kCommand, "serve", configuration};
  std::array<char*, 4> arguments = {words[0].data(), words[1].data(), words[2].data(), nullptr};
  const int error =
      ::posix_spawn(&process_, kCommand, &actions, nullptr, arguments.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  if (error != 0) throw std::runtime_error("docker-registry does not start");
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(30);
  while (!answers()) {
    if (std::chrono::steady_clock::now() > deadline) {
      throw std::runtime_error("docker-registry does not answer");
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
}

bool RegistryProcess::answers() const {
  boost::asio::io_context context;
  boost::asio::ip::tcp::socket socket(context);
  boost::system::error_code error;
  socket.connect({boost::asio::ip::address_v4::loopback(), port_}, error);
  return !error;
}

void RegistryProcess::stop() {
  if (process_ < 0) return;
  ::kill(process_, SIGKILL);
  ::waitpid(process_, nullptr, 0);
  process_ = -1;
}

std::filesystem::path RegistryProcess::blob_file(const std::string& hex) const {
  return directory_ / "data/docker/registry/v2/blobs/sha256" / hex.substr(0, 2) / hex / "data";
}

std::size_t RegistryProcess::count(const std::string& method, std::size_t expected) const {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(10);
  std::size_t number = logged(method);
  while (number < expected && std::chrono::steady_clock::now() < deadline) {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    number = logged(method);
  }
  return number;
}

std::size_t RegistryProcess::logged(const std::string& method) const {
  std::ifstream log(directory_ / "log");
  std::size_t number = 0;
  for (std::string line; std::getline(log, line);) {
    if (line.find("] \"" + method + " /v2/") != std::string::npos) ++number;
  }
  return number;
}

}  // namespace puzzlefs::test
