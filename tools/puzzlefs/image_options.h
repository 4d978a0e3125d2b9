// Options that several subcommands share: how to reach a registry, and where to keep what comes.
#pragma once

#include <filesystem>
#include <optional>
#include <string>

#include "fetch/image.h"
#include "fetch/registry.h"
#include "puzzlefs/arguments.h"

namespace puzzlefs::tools {

/// --authfile, --plain-http, --tls-ca.
class RegistryFlags {
 public:
  void add_to(Arguments& arguments);
  fetch::RegistryOptions options() const;
  fetch::HttpOptions http() const;

 private:
  std::filesystem::path authfile_;
  std::filesystem::path tls_ca_;
  bool plain_http_ = false;
};

/// As above with --cache-dir and, for commands that read chunks, --on-outage, for those that check
/// the image against a digest --digest and --require-fs-verity.
class ImageFlags {
 public:
  void add_to(Arguments& arguments);
  void add_outage_to(Arguments& arguments);
  void add_verity_to(Arguments& arguments);
  /// Throws UsageError. Paths are made absolute, for a daemon that works in "/".
  fetch::ImageOptions options() const;

 private:
  RegistryFlags registry_;
  std::filesystem::path cache_directory_;
  std::string on_outage_ = "fail";
  std::optional<std::string> digest_;
  bool require_fs_verity_ = false;
};

/// The fs-verity digest of a manifest, as `build` prints it. Throws UsageError.
format::Digest parse_verity_digest(const std::string& text);

/// parse_image_name() with the path of a layout made absolute.
format::ImageName parse_source(const std::string& text);

}  // namespace puzzlefs::tools
