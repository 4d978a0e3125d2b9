#include "format/platform.h"

#include <sys/utsname.h>

#include <algorithm>
#include <array>
#include <utility>

#include "format/error.h"

namespace puzzlefs::format {

namespace {

// Go's name for what the kernel calls a machine; other names are the same.
std::string go_architecture(const std::string& machine) {
  constexpr std::array<std::pair<std::string_view, std::string_view>, 4> kNames = {
      {{"x86_64", "amd64"}, {"aarch64", "arm64"}, {"armv7l", "arm"}, {"i686", "386"}}};
  for (const auto& [other, name] : kNames) {
    if (machine == other) return std::string(name);
  }
  return machine;
}

// Nothing for what is the same as no variant.
std::string_view normal_variant(const Platform& platform) {
  const bool implied = platform.architecture == "arm64" && platform.variant == "v8";
  return implied ? std::string_view() : std::string_view(platform.variant);
}

bool is_part(std::string_view part) {
  return !part.empty() && std::all_of(part.begin(), part.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '-' || c == '.';
  });
}

}  // namespace

Platform host_platform() {
  struct utsname host {};
  uname(&host);
  return {go_architecture(host.machine), "linux"};
}

std::string to_string(const Platform& platform) {
  return platform.os + "/" + platform.architecture +
         (platform.variant.empty() ? "" : "/" + platform.variant);
}

Platform parse_platform(std::string_view text) {
  std::array<std::string, 3> parts;
  std::size_t count = 0;
  bool valid = true;
  for (std::string_view rest = text; valid;) {
    const auto slash = rest.find('/');
    const auto part = rest.substr(0, slash);
    valid = count < parts.size() && is_part(part);
    if (valid) parts[count++] = part;
    if (slash == std::string_view::npos) break;
    rest.remove_prefix(slash + 1);
  }
  if (!valid || count < 2) {
    throw UsageError("\"" + std::string(text) +
                     "\" is no platform; that is OS/ARCH or OS/ARCH/VARIANT, as in linux/arm64.");
  }
  return {go_architecture(parts[1]), std::move(parts[0]), std::move(parts[2])};
}

bool fits(const Platform& offered, const Platform& wanted) {
  if (offered.os != wanted.os || offered.architecture != wanted.architecture) return false;
  return wanted.variant.empty() || normal_variant(offered) == normal_variant(wanted);
}

}  // namespace puzzlefs::format
