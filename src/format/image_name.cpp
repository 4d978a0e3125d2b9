#include "format/image_name.h"

#include <algorithm>
#include <cctype>

#include "format/error.h"

namespace puzzlefs::format {

namespace {

namespace fs = std::filesystem;

constexpr std::string_view kDockerHub = "docker.io";
constexpr std::size_t kMaxTagSize = 128;
constexpr std::size_t kMaxRepositorySize = 255;  // as distribution's reference grammar has it

bool is_lower_alnum(char c) {
  return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
}
bool is_word(char c) {
  return is_lower_alnum(c) || (c >= 'A' && c <= 'Z') || c == '_';
}

[[noreturn]] void fail(std::string_view name, const std::string& why) {
  throw UsageError("\"" + std::string(name) + "\" is not an image name: " + why + ".");
}

bool is_tag(std::string_view tag) {
  if (tag.empty() || tag.size() > kMaxTagSize || !is_word(tag.front())) return false;
  return std::all_of(tag.begin(), tag.end(),
                     [](char c) { return is_word(c) || c == '.' || c == '-'; });
}

// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`
bool is_component(std::string_view component) {
  std::size_t at = 0;
  for (;;) {
    const std::size_t begin = at;
    while (at < component.size() && is_lower_alnum(component[at])) ++at;
    if (at == begin) return false;
    if (at == component.size()) return true;
    const std::size_t mark = at;
    while (at < component.size() && !is_lower_alnum(component[at])) ++at;
    const auto separator = component.substr(mark, at - mark);
    const bool dashes = separator.find_first_not_of('-') == std::string_view::npos;
    if (!dashes && separator != "." && separator != "_" && separator != "__") return false;
  }
}

bool is_repository(std::string_view repository) {
  if (repository.size() > kMaxRepositorySize) return false;
  for (;;) {
    const auto slash = repository.find('/');
    if (!is_component(repository.substr(0, slash))) return false;
    if (slash == std::string_view::npos) return true;
    repository.remove_prefix(slash + 1);
  }
}

bool is_port(std::string_view port) {
  return !port.empty() && port.size() <= 5 &&
         std::all_of(port.begin(), port.end(), [](char c) { return c >= '0' && c <= '9'; }) &&
         std::stoi(std::string(port)) <= 65535;
}

// The position of the colon before the port; npos if there is no port.
std::size_t port_colon(std::string_view host) {
  const auto bracket = host.find(']');
  return host.find(':', bracket == std::string_view::npos ? 0 : bracket);
}

bool is_host(std::string_view host) {
  const auto colon = port_colon(host);
  if (colon != std::string_view::npos && !is_port(host.substr(colon + 1))) return false;
  auto name = host.substr(0, colon);
  if (name.starts_with('[')) {
    name.remove_prefix(1);
    if (!name.ends_with(']')) return false;
    name.remove_suffix(1);
    return !name.empty() && name.find_first_not_of("0123456789abcdefABCDEF:.") == name.npos;
  }
  return !name.empty() && std::all_of(name.begin(), name.end(), [](char c) {
    return (is_word(c) && c != '_') || c == '.' || c == '-';
  });
}

// True if the first component of a name is a host and not part of a Docker Hub repository.
bool looks_like_host(std::string_view component) {
  return component == "localhost" || component.find_first_of(".:[") != std::string_view::npos;
}

// True for a host without a repository. Only its dot tells: what may be a name of Docker Hub, as
// "registry:2", is none.
bool is_bare_host(std::string_view text) {
  const auto name = text.substr(0, port_colon(text));
  return is_host(text) && (name == "localhost" || name.find_first_of(".[") != name.npos);
}

[[noreturn]] void fail_bare_host(std::string_view text, const std::string& or_else) {
  const std::string host(text);
  throw UsageError("\"" + host + "\" is a registry's host; name a repository too, as in " + host +
                   "/REPOSITORY" + or_else + ".");
}

void check_no_url(std::string_view whole, std::string_view text) {
  const auto mark = text.find("://");
  if (mark == std::string_view::npos) return;
  const std::string scheme(text.substr(0, mark + 3));
  fail(whole, "write HOST/REPOSITORY without " + scheme +
                  (scheme == "http://" ? ", and --plain-http for a registry without TLS" : ""));
}

[[noreturn]] void fail_archive(std::string_view text) {
  fail(text, "archives cannot be read in place; unpack it and name the directory");
}

bool is_layout(const fs::path& path) {
  std::error_code ignored;
  return fs::exists(path / "oci-layout", ignored);
}

// Splits PATH[:TAG] at the last colon behind the last slash, unless the whole is a layout's path.
LayoutName split_layout(std::string_view text) {
  const auto slash = text.rfind('/');
  const auto colon = text.rfind(':');
  const bool has_colon =
      colon != std::string_view::npos && (slash == std::string_view::npos || colon > slash);
  if (!has_colon || is_layout(text)) return {fs::path(text), {}};
  return {fs::path(text.substr(0, colon)), std::string(text.substr(colon + 1))};
}

bool strip_prefix(std::string_view& text, std::string_view prefix) {
  if (!text.starts_with(prefix)) return false;
  text.remove_prefix(prefix.size());
  return true;
}

}  // namespace

std::string RegistryName::connect_host() const {
  return host == kDockerHub ? "registry-1.docker.io" : host;
}

std::string RegistryName::reference() const {
  return digest ? digest->to_string() : tag;
}

std::string RegistryName::to_string() const {
  std::string text = host + "/" + repository;
  if (!tag.empty()) text += ":" + tag;
  if (digest) text += "@" + digest->to_string();
  return text;
}

std::string LayoutName::to_string() const {
  return "oci:" + path.string() + (tag.empty() ? "" : ":" + tag);
}

RegistryName parse_registry_name(std::string_view text) {
  const std::string_view whole = text;
  strip_prefix(text, "docker://");
  check_no_url(whole, text);
  if (is_bare_host(text)) fail_bare_host(text, {});
  RegistryName name;
  if (const auto at = text.find('@'); at != std::string_view::npos) {
    try {
      name.digest = Digest::parse(text.substr(at + 1));
    } catch (const CorruptError&) {
      fail(whole, "its digest is not of the form sha256:<64 hex digits>");
    }
    text = text.substr(0, at);
  }
  const auto slash = text.find('/');
  if (slash != std::string_view::npos && looks_like_host(text.substr(0, slash))) {
    name.host = text.substr(0, slash);
    text.remove_prefix(slash + 1);
  } else {
    name.host = kDockerHub;
  }
  if (const auto colon = text.find(':'); colon != std::string_view::npos) {
    name.tag = text.substr(colon + 1);
    text = text.substr(0, colon);
    if (!is_tag(name.tag)) fail(whole, "its tag \"" + name.tag + "\" is not valid");
  }
  if (name.host == "index.docker.io") name.host = kDockerHub;
  name.repository = text;
  if (name.host == kDockerHub && text.find('/') == std::string_view::npos)
    name.repository = "library/" + name.repository;
  if (name.tag.empty() && !name.digest) name.tag = "latest";
  if (!is_host(name.host)) fail(whole, "its host \"" + name.host + "\" is not valid");
  if (!is_repository(name.repository))
    fail(whole, "its repository \"" + std::string(text) +
                    "\" is not made of lower-case letters, digits and single separators");
  return name;
}

LayoutName parse_layout_name(std::string_view text) {
  const std::string_view whole = text;
  if (text.starts_with("docker://")) {
    throw UsageError("\"" + std::string(text) +
                     "\" is an image in a registry; a layout is wanted here, LAYOUT[:TAG].");
  }
  if (text.starts_with("oci-archive:")) fail_archive(text);
  strip_prefix(text, "oci:");
  LayoutName name = split_layout(text);
  if (name.path.empty()) fail(whole, "its path is empty");
  if (text.ends_with(':')) fail(whole, "there is nothing behind its colon");
  return name;
}

ImageName parse_image_name(std::string_view text) {
  if (text.starts_with("docker://")) return parse_registry_name(text);
  if (text.starts_with("oci:")) return parse_layout_name(text);
  if (text.starts_with("oci-archive:")) fail_archive(text);
  if (text.starts_with('/') || text.starts_with('.')) return parse_layout_name(text);
  if (const LayoutName layout = split_layout(text); is_layout(layout.path)) return layout;
  if (is_bare_host(text)) fail_bare_host(text, ", or a layout, as in ./" + std::string(text));
  return parse_registry_name(text);
}

std::string to_string(const ImageName& name) {
  return std::visit([](const auto& value) { return value.to_string(); }, name);
}

std::optional<std::string> implied_name(std::string_view text) {
  if (text.starts_with("oci:") || text.starts_with('/') || text.starts_with('.')) {
    return std::nullopt;
  }
  const auto slash = text.find('/');
  const bool has_slash = slash != std::string_view::npos;
  // "docker://" too.
  if (has_slash && looks_like_host(text.substr(0, slash))) return std::nullopt;
  return std::string(kDockerHub) + (has_slash ? "/" : "/library/") + std::string(text);
}

bool is_loopback(std::string_view host) {
  const auto name = host.substr(0, port_colon(host));
  if (name == "localhost" || name == "[::1]") return true;
  return name.starts_with("127.") && std::count(name.begin(), name.end(), '.') == 3 &&
         name.find_first_not_of("0123456789.") == std::string_view::npos;
}

}  // namespace puzzlefs::format
