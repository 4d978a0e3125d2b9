// What one logs in to.
#include "fetch/login_target.h"

#include "format/error.h"
#include "format/image_name.h"

namespace puzzlefs::fetch {
namespace {

constexpr const char* kHub = "docker.io";
constexpr const char* kHubUrl = "https://index.docker.io/v1/";

[[noreturn]] void fail(std::string_view text, const std::string& why) {
  throw UsageError("\"" + std::string(text) + "\" is nothing to log in to: " + why + ".");
}

std::string parse_host(std::string_view text, std::string_view host) {
  if (is_docker_hub(host)) return kHub;
  std::string parsed;
  try {
    parsed = format::parse_registry_name(std::string(host) + "/x").host;
  } catch (const UsageError&) {
    fail(text, "\"" + std::string(host) + "\" is not a host");
  }
  // As in the names of images, where it would be a repository of Docker Hub.
  if (parsed != host) {
    fail(text, "the host of a registry has a dot or a port, as in registry.example or myhost:5000");
  }
  return parsed;
}

}  // namespace

std::string LoginTarget::key() const {
  return path.empty() ? host : host + "/" + path;
}

LoginTarget parse_login_target(std::string_view text) {
  if (const auto host = host_of_url(text); !host.empty()) return {parse_host(text, host), {}};
  const auto slash = text.find('/');
  LoginTarget target{parse_host(text, text.substr(0, slash)), {}};
  if (slash == std::string_view::npos) return target;
  target.path = text.substr(slash + 1);
  if (target.path.find_first_of(":@") != std::string::npos) {
    fail(text, "a tag or a digest has no password of its own");
  }
  try {
    format::parse_registry_name("h.example/" + target.path);
  } catch (const UsageError&) {
    fail(text, "\"" + target.path + "\" is not the path of a repository or the start of one");
  }
  return target;
}

std::string host_of_url(std::string_view text) {
  const auto separator = text.find("://");
  if (separator == std::string_view::npos) return {};
  text.remove_prefix(separator + 3);
  return std::string(text.substr(0, text.find('/')));
}

bool is_docker_hub(std::string_view host) {
  return host == kHub || host == "index.docker.io" || host == "registry-1.docker.io";
}

std::vector<std::string> names_of_host(const std::string& host) {
  if (is_docker_hub(host)) return {kHub, "index.docker.io", "registry-1.docker.io", kHubUrl};
  return {host};
}

std::vector<std::string> servers_of_host(const std::string& host) {
  if (is_docker_hub(host)) return {kHubUrl, kHub};
  return {host};
}

}  // namespace puzzlefs::fetch
