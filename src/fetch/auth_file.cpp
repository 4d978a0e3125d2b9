// The files in which credentials are kept.
#include "fetch/auth_file.h"

#include <unistd.h>

#include <algorithm>
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
// Files that people edit keep their order.
using Json = nlohmann::ordered_json;

constexpr std::size_t kMaxFileSize = 1 << 20;

std::string environment(const char* name) {
  const char* const value = std::getenv(name);
  return value == nullptr ? std::string() : value;
}

fs::path made_absolute(const fs::path& path) {
  std::error_code failure;
  auto result = fs::absolute(path, failure);
  return failure ? path : result;
}

[[noreturn]] void fail(const fs::path& file, const std::string& why) {
  throw CorruptError("The credentials file " + file.string() + " " + why +
                     ". Repair it, or remove it and log in anew with \"puzzlefs login\".");
}

// A member that is a string; empty if there is none.
std::string text_member(const Json& object, const std::string& name, const fs::path& file) {
  const auto found = object.find(name);
  if (found == object.end()) return {};
  if (!found->is_string()) fail(file, "has a malformed \"" + name + "\"");
  return found->get<std::string>();
}

// A member that is an object; null if there is none.
const Json* object_member(const Json& object, const std::string& name, const fs::path& file) {
  const auto found = object.find(name);
  if (found == object.end()) return nullptr;
  if (!found->is_object()) fail(file, "has a member \"" + name + "\" that is not a JSON object");
  return &*found;
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

// Whether it has what decode() finds, or what it takes for malformed.
bool has_secret(const Json& entry) {
  const auto is_given = [&](const char* name) {
    const auto found = entry.find(name);
    return found != entry.end() && *found != "";
  };
  return entry.is_object() && (is_given("auth") || is_given("identitytoken"));
}

// Whether a key of `auths` means the host in another way than by its name.
bool is_other_name(const std::string& key, const std::string& host) {
  if (key == host) return false;
  const auto url_host = host_of_url(key);
  const auto& name = url_host.empty() ? key : url_host;
  return name == host || (is_docker_hub(name) && is_docker_hub(host));
}

}  // namespace

fs::path named_auth_file(fs::path option) {
  if (option.empty()) option = environment("REGISTRY_AUTH_FILE");
  return option.empty() ? option : made_absolute(option);
}

std::vector<fs::path> default_auth_files() {
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
  for (auto& file : files) file = made_absolute(file);
  return files;
}

AuthDocument::AuthDocument(fs::path file)
    : file_(std::move(file)), document_(std::make_unique<Json>(Json::object())) {}
AuthDocument::~AuthDocument() = default;
AuthDocument::AuthDocument(AuthDocument&& other) noexcept = default;
AuthDocument& AuthDocument::operator=(AuthDocument&& other) noexcept = default;

AuthDocument AuthDocument::read(const fs::path& file) {
  AuthDocument result(file);
  const Bytes text = read_file(file, kMaxFileSize);
  if (text.empty()) return result;
  *result.document_ = Json::parse(as_text(text), nullptr, false);
  if (!result.document_->is_object()) fail(file, "is not a JSON object");
  return result;
}

std::optional<HostHelper> AuthDocument::helper_for(const std::string& host) const {
  const auto* helpers = object_member(*document_, "credHelpers", file_);
  if (helpers == nullptr) return std::nullopt;
  for (const auto& key : names_of_host(host)) {
    auto name = text_member(*helpers, key, file_);
    if (name.empty()) continue;
    // Who reads the same entry asks for the host by the name that it has there.
    HostHelper helper{std::move(name), {key}};
    for (auto& server : servers_of_host(host)) {
      if (server != key) helper.servers.push_back(std::move(server));
    }
    return helper;
  }
  return std::nullopt;
}

std::optional<HostHelper> AuthDocument::helper_for_all(const std::string& host) const {
  auto name = text_member(*document_, "credsStore", file_);
  if (name.empty()) return std::nullopt;
  return HostHelper{std::move(name), servers_of_host(host)};
}

std::vector<std::string> AuthDocument::hosts_with_helper() const {
  std::vector<std::string> hosts;
  if (const auto* helpers = object_member(*document_, "credHelpers", file_)) {
    for (const auto& [key, helper] : helpers->items()) hosts.push_back(key);
  }
  return hosts;
}

std::optional<Credential> AuthDocument::find(const format::RegistryName& name) const {
  const auto* auths = object_member(*document_, "auths", file_);
  if (auths == nullptr) return std::nullopt;
  std::string key = name.host + "/" + name.repository;
  for (;;) {
    if (const auto entry = auths->find(key); entry != auths->end()) {
      if (auto credential = decode(*entry, key, file_)) return credential;
    }
    if (key == name.host) break;
    key.resize(key.rfind('/'));
  }
  for (const auto& [other, entry] : auths->items()) {
    if (!is_other_name(other, name.host)) continue;
    if (auto credential = decode(entry, other, file_)) return credential;
  }
  return std::nullopt;
}

void AuthDocument::put(const LoginTarget& target, const Credential& credential) {
  object_member(*document_, "auths", file_);
  (*document_)["auths"][target.key()] = {
      {"auth", base64_encode(credential.user + ":" + credential.password)}};
}

bool AuthDocument::remove(const LoginTarget& target, Entries entries) {
  const auto* auths = object_member(*document_, "auths", file_);
  if (auths == nullptr) return false;
  std::vector<std::string> keys;
  for (const auto& [key, entry] : auths->items()) {
    const bool meant =
        key == target.key() || (target.path.empty() && is_other_name(key, target.host));
    if (meant && (entries == Entries::kAll || has_secret(entry))) keys.push_back(key);
  }
  for (const auto& key : keys) (*document_)["auths"].erase(key);
  return !keys.empty();
}

std::vector<std::string> AuthDocument::remove_all() {
  std::vector<std::string> keys;
  if (const auto* auths = object_member(*document_, "auths", file_)) {
    for (const auto& [key, entry] : auths->items()) keys.push_back(key);
    (*document_)["auths"] = Json::object();
  }
  return keys;
}

std::string AuthDocument::text() const {
  return document_->dump(1, '\t') + "\n";
}

}  // namespace puzzlefs::fetch
