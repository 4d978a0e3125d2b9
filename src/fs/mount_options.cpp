// Checking mount options. libfuse would refuse unknown ones as well, but in its own words, without
// saying which there are.
#include "fs/mount_options.h"

#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <array>
#include <boost/algorithm/string/classification.hpp>
#include <boost/algorithm/string/split.hpp>
#include <string_view>

#include "format/error.h"

namespace puzzlefs::fs {
namespace {

constexpr std::array<std::string_view, 13> kFlags = {
    "allow_other", "allow_root", "atime", "auto_unmount", "default_permissions",
    "dev",         "exec",       "nodev", "noatime",      "noexec",
    "nosuid",      "ro",         "suid"};
constexpr std::string_view kSourceKey = "fsname=";

void check(const std::string& option) {
  if (option.starts_with(kSourceKey) && option.size() > kSourceKey.size()) return;
  if (std::find(kFlags.begin(), kFlags.end(), option) != kFlags.end()) return;
  if (option == "rw") {
    throw UsageError("The mount option \"rw\" cannot be had: an image is read-only.");
  }
  throw UsageError(fmt::format("There is no mount option \"{}\". There are: {}, fsname=NAME.",
                               option, fmt::join(kFlags, ", ")));
}

/// libfuse splits what it is given at commas that have no backslash before them.
std::string escape(std::string_view text) {
  std::string escaped;
  for (const char c : text) {
    if (c == ',' || c == '\\') escaped += '\\';
    escaped += c;
  }
  return escaped;
}

std::vector<std::string> split(const std::vector<std::string>& requested) {
  std::vector<std::string> options;
  for (const auto& list : requested) {
    std::vector<std::string> parts;
    boost::algorithm::split(parts, list, boost::algorithm::is_any_of(","));
    options.insert(options.end(), parts.begin(), parts.end());
  }
  std::erase(options, "");
  return options;
}

}  // namespace

std::vector<std::string> complete_mount_options(const std::vector<std::string>& requested,
                                                const std::string& source, bool privileged) {
  const auto asked = split(requested);
  std::for_each(asked.begin(), asked.end(), check);

  std::vector<std::string> options = {"ro", "default_permissions", "subtype=puzzlefs"};
  if (!source.empty()) options.push_back(std::string(kSourceKey) + escape(source));
  if (privileged) {
    // libfuse mounts nodev and nosuid unless told otherwise.
    options.insert(options.end(), {"dev", "suid"});
    // The two exclude each other.
    if (std::find(asked.begin(), asked.end(), "allow_root") == asked.end()) {
      options.emplace_back("allow_other");
    }
  }
  // The last of contradicting options wins.
  options.insert(options.end(), asked.begin(), asked.end());
  return options;
}

}  // namespace puzzlefs::fs
