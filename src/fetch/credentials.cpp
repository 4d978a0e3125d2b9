// Where credentials stand: a list of files, and in each one entries that name a registry or a part
// of one.
#include "fetch/credentials.h"

#include <spdlog/spdlog.h>
#include <unistd.h>

#include <cstdlib>
#include <nlohmann/json.hpp>
#include <string_view>
#include <system_error>
#include <utility>

#include "fetch/base64.h"
#include "fetch/file_descriptor.h"
#include "format/error.h"

namespace puzzlefs::fetch {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

constexpr std::size_t kMaxFileSize = 1 << 20;

std::string environment(const char* name) {
  const char* const value = std::getenv(name);
  return value == nullptr ? std::string() : value;
}

std::vector<fs::path> default_files() {
  std::vector<fs::path> files;
  const std::string home = environment("HOME");
  if (const auto runtime = environment("XDG_RUNTIME_DIR"); !runtime.empty()) {
    files.push_back(fs::path(runtime) / "containers/auth.json");
  } else {
    files.push_back(fs::path("/run/containers") / std::to_string(::getuid()) / "auth.json");
  }
  if (const auto config = environment("XDG_CONFIG_HOME"); !config.empty()) {
    files.push_back(fs::path(config) / "containers/auth.json");
  } else if (!home.empty()) {
    files.push_back(fs::path(home) / ".config/containers/auth.json");
  }
  if (const auto docker = environment("DOCKER_CONFIG"); !docker.empty()) {
    files.push_back(fs::path(docker) / "config.json");
  } else if (!home.empty()) {
    files.push_back(fs::path(home) / ".docker/config.json");
  }
  return files;
}

[[noreturn]] void fail(const fs::path& file, const std::string& why) {
  throw CorruptError("The credentials file " + file.string() + " " + why +
                     ". Repair it, or log in anew with \"podman login\" or \"docker login\".");
}

// The registry that a key such as "https://index.docker.io/v1/" means, and nothing for other keys.
std::string host_of_url(std::string_view key) {
  const auto separator = key.find("://");
  if (separator == std::string_view::npos) return {};
  key.remove_prefix(separator + 3);
  return std::string(key.substr(0, key.find('/')));
}

bool is_docker_hub(std::string_view host) {
  return host == "docker.io" || host == "index.docker.io" || host == "registry-1.docker.io";
}

// Nothing for an entry without a secret: docker leaves such ones when a helper keeps it.
std::optional<Credential> decode(const Json& entry, const std::string& key, const fs::path& file) {
  if (!entry.is_object() || !entry.contains("auth")) return std::nullopt;
  const Json& auth = entry.at("auth");
  if (!auth.is_string()) fail(file, "has a malformed entry for " + key);
  if (auth.get_ref<const std::string&>().empty()) return std::nullopt;
  const auto text = base64_decode(auth.get_ref<const std::string&>());
  const auto colon = text ? text->find(':') : std::string::npos;
  if (colon == std::string::npos) fail(file, "has a malformed entry for " + key);
  return Credential{text->substr(0, colon), text->substr(colon + 1)};
}

std::optional<Credential> find_in(const Json& auths, const format::RegistryName& name,
                                  const fs::path& file) {
  std::string key = name.host + "/" + name.repository;
  for (;;) {
    if (const auto entry = auths.find(key); entry != auths.end()) {
      if (auto credential = decode(*entry, key, file)) return credential;
    }
    if (key == name.host) break;
    key.resize(key.rfind('/'));
  }
  for (const auto& [url, entry] : auths.items()) {
    const std::string host = host_of_url(url);
    if (host != name.host && !(is_docker_hub(host) && is_docker_hub(name.host))) continue;
    if (auto credential = decode(entry, url, file)) return credential;
  }
  return std::nullopt;
}

}  // namespace

Credentials::Credentials(fs::path authfile) {
  if (authfile.empty()) authfile = environment("REGISTRY_AUTH_FILE");
  named_ = !authfile.empty();
  if (named_) {
    files_.push_back(std::move(authfile));
  } else {
    files_ = default_files();
  }
  // What the user named is meant from here; a mount in the background works elsewhere.
  for (auto& file : files_) {
    std::error_code failure;
    auto absolute = fs::absolute(file, failure);
    if (!failure) file = std::move(absolute);
  }
}

std::optional<Credential> Credentials::find(const format::RegistryName& name) const {
  for (const auto& file : files_) {
    Bytes text;
    try {
      text = read_file(file, kMaxFileSize);
    } catch (const Error& error) {
      if (named_) throw;
      spdlog::debug("No credentials from {}: {}", file.string(), error.what());
      continue;
    }
    const Json document = Json::parse(as_text(text), nullptr, false);
    if (!document.is_object()) fail(file, "is not a JSON object");
    const auto auths = document.find("auths");
    if (auths == document.end()) continue;
    if (!auths->is_object()) fail(file, "has an \"auths\" that is not a JSON object");
    if (auto credential = find_in(*auths, name, file)) return credential;
  }
  return std::nullopt;
}

}  // namespace puzzlefs::fetch
