// Where credentials stand: a list of files, and in each one entries that name a registry or a part
// of one.
#include "fetch/credentials.h"

#include <spdlog/spdlog.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <string_view>
#include <system_error>
#include <utility>

#include "fetch/base64.h"
#include "fetch/credential_helper.h"
#include "fetch/file_descriptor.h"
#include "format/error.h"

namespace puzzlefs::fetch {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

constexpr std::size_t kMaxFileSize = 1 << 20;
constexpr const char* kHubUrl = "https://index.docker.io/v1/";
// All that Docker Hub is called in `credHelpers`.
constexpr std::array<const char*, 4> kHubKeys{"docker.io", "index.docker.io",
                                              "registry-1.docker.io", kHubUrl};

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

// A member that is a string; empty if there is none.
std::string text_member(const Json& object, const char* name, const fs::path& file) {
  const auto found = object.find(name);
  if (found == object.end()) return {};
  if (!found->is_string()) fail(file, "has a malformed \"" + std::string(name) + "\"");
  return found->get<std::string>();
}

// Nothing for an entry without a secret: docker leaves such ones when a helper keeps it.
std::optional<Credential> decode(const Json& entry, const std::string& key, const fs::path& file) {
  if (!entry.is_object()) return std::nullopt;
  Credential credential;
  credential.identity_token = text_member(entry, "identitytoken", file);
  const auto auth = text_member(entry, "auth", file);
  if (auth.empty() && credential.identity_token.empty()) return std::nullopt;
  if (!auth.empty()) {
    const auto text = base64_decode(auth);
    const auto colon = text ? text->find(':') : std::string::npos;
    if (colon == std::string::npos) fail(file, "has a malformed entry for " + key);
    credential.user = text->substr(0, colon);
    credential.password = text->substr(colon + 1);
  }
  return credential;
}

// What a helper may know a server as: docker calls its Hub by its old name, podman and skopeo by
// the one that images have.
std::vector<std::string> helper_keys(const std::string& host) {
  if (is_docker_hub(host)) return {kHubUrl, "docker.io"};
  return {host};
}

// A helper that fails is no reason to fail: much can be read by anybody.
std::optional<Credential> ask(const std::string& helper, const std::string& host,
                              const fs::path& file) {
  try {
    for (const auto& key : helper_keys(host)) {
      if (auto credential = ask_credential_helper(helper, key)) return credential;
    }
    return std::nullopt;
  } catch (const Error& error) {
    spdlog::warn("{} (It is named by {}.)", error.what(), file.native());
    return std::nullopt;
  }
}

// The helper that `credHelpers` names for the host; empty if there is none.
std::string helper_for(const Json& document, const std::string& host, const fs::path& file) {
  const auto helpers = document.find("credHelpers");
  if (helpers == document.end()) return {};
  if (!helpers->is_object()) fail(file, "has a \"credHelpers\" that is not a JSON object");
  std::vector<std::string> keys{host};
  if (is_docker_hub(host)) keys.insert(keys.end(), kHubKeys.begin(), kHubKeys.end());
  for (const auto& key : keys) {
    if (auto helper = text_member(*helpers, key.c_str(), file); !helper.empty()) return helper;
  }
  return {};
}

std::optional<Credential> find_entry(const Json& document, const format::RegistryName& name,
                                     const fs::path& file) {
  const auto found = document.find("auths");
  if (found == document.end()) return std::nullopt;
  const Json& auths = *found;
  if (!auths.is_object()) fail(file, "has an \"auths\" that is not a JSON object");
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

std::optional<Credential> find_in(const Json& document, const format::RegistryName& name,
                                  const fs::path& file) {
  if (const auto helper = helper_for(document, name.host, file); !helper.empty()) {
    if (auto credential = ask(helper, name.host, file)) return credential;
  }
  if (auto credential = find_entry(document, name, file)) return credential;
  const auto store = text_member(document, "credsStore", file);
  return store.empty() ? std::nullopt : ask(store, name.host, file);
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
    if (auto credential = find_in(document, name, file)) return credential;
  }
  return std::nullopt;
}

}  // namespace puzzlefs::fetch
