// The platforms that images are for, in Go's terms, and which image of several a machine is given.
#pragma once

#include <string>
#include <string_view>

namespace puzzlefs::format {

struct Platform {
  std::string architecture;
  std::string os;
  std::string variant = {};

  bool operator==(const Platform&) const = default;
};

/// The platform this program runs on ("amd64", "linux"), without a variant.
Platform host_platform();

/// "linux/arm64/v8".
std::string to_string(const Platform& platform);

/// OS/ARCH[/VARIANT]; "aarch64" and the like are understood. Throws UsageError.
Platform parse_platform(std::string_view text);

/// Whether an image for `offered` is one for `wanted`: of the same system and architecture, and of
/// the same variant if one is wanted. For arm64, v8 is the same as none.
bool fits(const Platform& offered, const Platform& wanted);

}  // namespace puzzlefs::format
