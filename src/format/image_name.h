// The names of images, as skopeo and the docker command spell them.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <variant>

#include "format/digest.h"

namespace puzzlefs::format {

/// `[host[:port]/]path[:tag][@digest]`, made whole: docker.io and library/ filled in.
struct RegistryName {
  std::string host;  // with its port if it has one; "docker.io" for Docker Hub
  std::string repository;
  std::string tag;  // empty if there is only a digest
  std::optional<Digest> digest;

  /// The host to connect to ("registry-1.docker.io" for Docker Hub).
  std::string connect_host() const;
  /// What a manifest is asked for by: the digest if there is one, else the tag.
  std::string reference() const;
  /// The canonical name, e.g. "docker.io/library/debian:12".
  std::string to_string() const;

  bool operator==(const RegistryName&) const = default;
};

/// An OCI image layout directory and a tag in it; without a tag the layout's only image is meant.
struct LayoutName {
  std::filesystem::path path;
  std::string tag;

  /// "oci:PATH:TAG".
  std::string to_string() const;

  bool operator==(const LayoutName&) const = default;
};

using ImageName = std::variant<RegistryName, LayoutName>;

/// Throws UsageError, saying which part is wrong.
RegistryName parse_registry_name(std::string_view text);
/// `PATH[:TAG]`, with or without `oci:`. Throws UsageError, also for other transports. The path
/// need not exist.
LayoutName parse_layout_name(std::string_view text);

/// `docker://NAME` and `oci:PATH[:TAG]` say what they are; without a transport an existing layout
/// directory, and whatever starts with '/' or '.', is a layout, everything else a registry's.
/// Throws UsageError.
ImageName parse_image_name(std::string_view text);

std::string to_string(const ImageName& name);

/// What a registry's name without a host stands for, "docker.io/library/debian:12" for "debian:12".
/// Nothing where a host or a transport is written, and for what can only be a layout.
std::optional<std::string> implied_name(std::string_view text);

/// True for localhost, 127.0.0.0/8 and ::1, with or without a port.
bool is_loopback(std::string_view host);

}  // namespace puzzlefs::format
