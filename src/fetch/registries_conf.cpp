#include "fetch/registries_conf.h"

#include <spdlog/fmt/fmt.h>
#include <toml++/toml.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <optional>
#include <string_view>
#include <system_error>
#include <type_traits>
#include <utility>

#include "fetch/file_descriptor.h"
#include "fetch/printable.h"
#include "format/error.h"

namespace puzzlefs::fetch {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kMaxFileSize = 1 << 20;
constexpr std::string_view kWildcard = "*.";

std::string environment(const char* name) {
  const char* const value = std::getenv(name);
  return value == nullptr ? std::string() : value;
}

std::vector<fs::path> drop_ins(const fs::path& directory) {
  std::vector<fs::path> files;
  std::error_code failure;
  for (fs::directory_iterator entry(directory, failure), end; !failure && entry != end;
       entry.increment(failure)) {
    if (entry->path().extension() == ".conf") files.push_back(entry->path());
  }
  std::sort(files.begin(), files.end());
  return files;
}

// How much of `name` ("host/path") the prefix covers; nothing if it does not fit. "*.domain" stands
// for every host of that domain, but not for the domain itself.
std::optional<std::size_t> matched(const std::string& prefix, const std::string& name) {
  std::size_t end = prefix.size();
  if (prefix.starts_with(kWildcard)) {
    const auto rest = std::string_view(prefix).substr(1);
    const auto found = name.find(rest);
    if (found == std::string::npos || found == 0 || name.find('/') < found) return std::nullopt;
    end = found + rest.size();
  } else if (!name.starts_with(prefix)) {
    return std::nullopt;
  }
  const bool whole = end == name.size() || name[end] == '/';
  return whole ? std::optional(end) : std::nullopt;
}

// `name` under `location`, which takes the place of its first `covered` characters.
format::RegistryName moved(const format::RegistryName& name, std::size_t covered,
                           const std::string& location, const std::string& file) {
  const auto text = location + (name.host + "/" + name.repository).substr(covered);
  try {
    auto result = format::parse_registry_name(text);
    result.tag = name.tag;
    result.digest = name.digest;
    return result;
  } catch (const UsageError& error) {
    throw CorruptError(
        fmt::format("{} has the location \"{}\", with which {}/{} cannot be named: {}", file,
                    printable(location), name.host, name.repository, error.what()));
  }
}

[[noreturn]] void fail(const std::string& file, const std::string& why) {
  throw CorruptError(file + " " + why + ". Repair it; containers-registries.conf(5) says how.");
}

// Reads the tables of one file.
class Reader {
 public:
  explicit Reader(std::string file) : file_(std::move(file)) {}

  std::vector<RegistryRule> rules(const Bytes& text) const {
    const auto document = parse(as_text(text));
    std::vector<RegistryRule> result;
    for (const auto* table : tables(document, "registry")) result.push_back(rule(*table));
    return result;
  }

 private:
  toml::table parse(std::string_view text) const {
    try {
      return toml::parse(text);
    } catch (const toml::parse_error& error) {
      fail(file_, fmt::format("is not valid TOML, line {}: {}", error.source().begin.line,
                              printable(error.description())));
    }
  }

  // The tables of `[[name]]`.
  std::vector<const toml::table*> tables(const toml::table& parent, std::string_view name) const {
    std::vector<const toml::table*> result;
    const auto* node = parent.get(name);
    if (node == nullptr) return result;
    if (!node->is_array()) fail(file_, fmt::format("has a \"{}\" that is not [[{}]]", name, name));
    for (const auto& element : *node->as_array()) {
      if (!element.is_table()) fail(file_, fmt::format("has a \"{}\" that is no table", name));
      result.push_back(element.as_table());
    }
    return result;
  }

  template <class T>
  T value(const toml::table& table, std::string_view name) const {
    const auto* node = table.get(name);
    if (node == nullptr) return T();
    const auto found = node->value_exact<T>();
    if (!found) {
      fail(file_,
           fmt::format("has a \"{}\" that is not a {}, line {}", name,
                       std::is_same_v<T, bool> ? "boolean" : "string", node->source().begin.line));
    }
    return *found;
  }

  // "host/path"; a slash at its end says nothing.
  std::string place(const toml::table& table, std::string_view name) const {
    auto text = value<std::string>(table, name);
    if (text.find("://") != std::string::npos) {
      fail(file_, fmt::format("has a {} with a scheme, \"{}\"", name, printable(text)));
    }
    text.resize(text.find_last_not_of('/') + 1);
    return text;
  }

  RegistryRule rule(const toml::table& table) const {
    RegistryRule result;
    result.prefix = place(table, "prefix");
    result.location = place(table, "location");
    if (result.prefix.empty()) result.prefix = result.location;
    if (result.prefix.empty()) {
      fail(file_, fmt::format("has a [[registry]] with neither prefix nor location, line {}",
                              table.source().begin.line));
    }
    result.insecure = value<bool>(table, "insecure");
    result.blocked = value<bool>(table, "blocked");
    const bool by_digest = value<bool>(table, "mirror-by-digest-only");
    for (const auto* mirror : tables(table, "mirror")) {
      result.mirrors.push_back(mirror_rule(*mirror, by_digest));
    }
    result.file = file_;
    return result;
  }

  MirrorRule mirror_rule(const toml::table& table, bool by_digest) const {
    MirrorRule result;
    result.location = place(table, "location");
    if (result.location.empty()) {
      fail(file_, fmt::format("has a [[registry.mirror]] without a location, line {}",
                              table.source().begin.line));
    }
    result.insecure = value<bool>(table, "insecure");
    const auto use = value<std::string>(table, "pull-from-mirror");
    if (use == "digest-only" || (use.empty() && by_digest)) {
      result.use = PullFromMirror::kDigestOnly;
    } else if (use == "tag-only") {
      result.use = PullFromMirror::kTagOnly;
    } else if (!use.empty() && use != "all") {
      fail(file_, fmt::format("has a pull-from-mirror \"{}\"; it can be all, digest-only or "
                              "tag-only",
                              printable(use)));
    }
    return result;
  }

  const std::string file_;
};

fs::path main_file(const fs::path& of_user) {
  for (const char* name : {"CONTAINERS_REGISTRIES_CONF", "REGISTRIES_CONFIG_PATH"}) {
    const auto named = environment(name);
    if (named.empty()) continue;
    open_regular_file(named);  // must be there, unlike the others
    return named;
  }
  std::error_code ignored;
  const auto own = of_user / "registries.conf";
  return fs::exists(own, ignored) ? own : fs::path("/etc/containers/registries.conf");
}

}  // namespace

RegistriesConf RegistriesConf::load() {
  const auto home = environment("HOME");
  const auto of_user = home.empty() ? fs::path() : fs::path(home) / ".config/containers";
  std::vector<fs::path> files{main_file(of_user)};
  auto more = drop_ins("/etc/containers/registries.conf.d");
  files.insert(files.end(), more.begin(), more.end());
  if (!of_user.empty()) {
    more = drop_ins(of_user / "registries.conf.d");
    files.insert(files.end(), more.begin(), more.end());
  }
  return read(files);
}

RegistriesConf RegistriesConf::read(const std::vector<fs::path>& files) {
  RegistriesConf conf;
  for (const auto& file : files) {
    Bytes text;
    try {
      text = read_file(file, kMaxFileSize);
    } catch (const NotFoundError&) {
      continue;
    }
    for (auto& rule : Reader(file.native()).rules(text)) {
      std::erase_if(conf.rules_,
                    [&](const auto& earlier) { return earlier.prefix == rule.prefix; });
      conf.rules_.push_back(std::move(rule));
    }
  }
  return conf;
}

// The one with the longest prefix; a wildcard counts for less than any that names the host.
const RegistryRule* RegistriesConf::find(const format::RegistryName& name) const {
  const auto full = name.host + "/" + name.repository;
  const auto rank = [](const RegistryRule& rule) {
    return std::pair(!rule.prefix.starts_with(kWildcard), rule.prefix.size());
  };
  const RegistryRule* best = nullptr;
  for (const auto& rule : rules_) {
    if (!matched(rule.prefix, full)) continue;
    if (best == nullptr || rank(*best) < rank(rule)) best = &rule;
  }
  if (best != nullptr && best->blocked) {
    throw Error(EACCES, fmt::format("{} is blocked by {}.", name.host, best->file));
  }
  return best;
}

PullSources RegistriesConf::pull_sources(const format::RegistryName& name) const {
  PullSources sources{{name}, {}};
  const auto* const rule = find(name);
  if (rule == nullptr) return sources;
  const auto covered = *matched(rule->prefix, name.host + "/" + name.repository);
  if (!rule->location.empty()) {
    sources.registry.name = moved(name, covered, rule->location, rule->file);
  }
  sources.registry.insecure = rule->insecure;
  for (const auto& mirror : rule->mirrors) {
    sources.mirrors.push_back(
        {moved(name, covered, mirror.location, rule->file), mirror.insecure, mirror.use});
  }
  return sources;
}

bool RegistriesConf::is_insecure(const format::RegistryName& name) const {
  const auto* const rule = find(name);
  return rule != nullptr && rule->insecure;
}

}  // namespace puzzlefs::fetch
