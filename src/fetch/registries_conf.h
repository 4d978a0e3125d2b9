// What registries.conf says about registries: mirrors, other locations, and which are blocked
// (containers-registries.conf(5), version 2).
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "format/image_name.h"

namespace puzzlefs::fetch {

/// What may be asked of a mirror.
enum class PullFromMirror { kAll, kDigestOnly, kTagOnly };

/// A place that a repository can be read from.
struct PullSource {
  format::RegistryName name;  // as it is called there
  bool insecure = false;      // TLS is not verified, and need not be there
  PullFromMirror use = PullFromMirror::kAll;
};

/// All places of a repository.
struct PullSources {
  PullSource registry;
  std::vector<PullSource> mirrors;  // to be asked first, in this order
};

/// A `[[registry.mirror]]`.
struct MirrorRule {
  std::string location;
  bool insecure = false;
  PullFromMirror use = PullFromMirror::kAll;
};

/// A `[[registry]]`.
struct RegistryRule {
  std::string prefix;    // "host/path" or "*.domain"
  std::string location;  // what stands in place of the prefix
  bool insecure = false;
  bool blocked = false;
  std::vector<MirrorRule> mirrors;
  std::string file;  // that says so
};

/// A value; immutable, thread-safe.
class RegistriesConf {
 public:
  /// One that says nothing.
  RegistriesConf() = default;
  /// Reads $CONTAINERS_REGISTRIES_CONF, else ~/.config/containers/registries.conf, else
  /// /etc/containers/registries.conf, and the files *.conf of /etc/containers/registries.conf.d and
  /// ~/.config/containers/registries.conf.d in the order of their names, of which the last one that
  /// has a prefix decides about it. Throws CorruptError, naming file and place, for what is not
  /// valid. Files that are not there say nothing.
  static RegistriesConf load();
  /// Reads these files, the later ones deciding.
  static RegistriesConf read(const std::vector<std::filesystem::path>& files);

  /// Where to read the repository. Throws Error (EACCES) if the registry is blocked.
  PullSources pull_sources(const format::RegistryName& name) const;
  /// Whether pushes and deletions may do without verified TLS: they always go to the registry that
  /// the name says. Throws as pull_sources().
  bool is_insecure(const format::RegistryName& name) const;

 private:
  const RegistryRule* find(const format::RegistryName& name) const;

  std::vector<RegistryRule> rules_;
};

}  // namespace puzzlefs::fetch
