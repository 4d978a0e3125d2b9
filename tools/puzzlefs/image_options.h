// Options that several subcommands share: how to reach a registry, and where to keep what comes.
#pragma once

#include <filesystem>
#include <optional>
#include <string>

#include "fetch/image.h"
#include "fetch/registry.h"
#include "format/error.h"
#include "format/image_name.h"
#include "puzzlefs/arguments.h"
#include "puzzlefs/cache_flags.h"

namespace puzzlefs::tools {

/// --authfile, --plain-http, --tls-ca.
class RegistryFlags {
 public:
  void add_to(Arguments& arguments);
  fetch::RegistryOptions options() const;
  fetch::HttpOptions http() const;
  const std::filesystem::path& authfile() const { return authfile_; }

 private:
  std::filesystem::path authfile_;
  std::filesystem::path tls_ca_;
  bool plain_http_ = false;
};

/// --platform of commands that read one image.
class PlatformFlag {
 public:
  void add_to(Arguments& arguments);
  /// Nothing if it was not given. Throws UsageError.
  std::optional<format::Platform> platform() const;

 private:
  std::string text_;
};

/// As above with --cache-dir, --cache-size, --offline, --platform and, for commands that read
/// chunks, --on-outage, for those that check the image against a digest --digest and
/// --require-fs-verity.
class ImageFlags {
 public:
  void add_to(Arguments& arguments);
  void add_outage_to(Arguments& arguments);
  void add_verity_to(Arguments& arguments);
  /// To open the image of that name; an image of a layout needs nothing of what is said of
  /// registries. Throws UsageError. Paths are made absolute, for a daemon that works in "/".
  fetch::ImageOptions options(const format::ImageName& name) const;

 private:
  RegistryFlags registry_;
  PlatformFlag platform_;
  CacheFlags cache_;
  bool offline_ = false;
  std::string on_outage_ = "fail";
  std::optional<std::string> digest_;
  bool require_fs_verity_ = false;
};

/// The fs-verity digest of a manifest, as `build` prints it. Throws UsageError.
format::Digest parse_verity_digest(const std::string& text);

/// parse_image_name() with the path of a layout made absolute.
format::ImageName parse_source(const std::string& text);

/// In a handler: throws what is handled on; where Docker Hub failed, which `source` only implies,
/// with a sentence that says how it was understood.
[[noreturn]] void rethrow_explained(const Error& error, const std::string& source);

/// What `action` gives, which opens or asks for `source` as it was typed. Its errors are explained.
template <class Action>
auto explaining(const std::string& source, Action action) {
  try {
    return action();
  } catch (const Error& error) {
    rethrow_explained(error, source);
  }
}

}  // namespace puzzlefs::tools
