// Checking mount options. libfuse would refuse unknown ones as well, but in its own words, without
// saying which there are.
#include "fs/mount_options.h"

#include <spdlog/fmt/fmt.h>
#include <sys/mount.h>

#include <algorithm>
#include <array>
#include <boost/algorithm/string/classification.hpp>
#include <boost/algorithm/string/split.hpp>
#include <string_view>

#include "format/error.h"

namespace puzzlefs::fs {
namespace {

/// What mount(8) passes on to the kernel for any file system, and takes back: mount(2).
struct KernelFlag {
  std::string_view name;
  unsigned long flag = 0;
  bool set = true;
};
constexpr std::array<KernelFlag, 15> kKernelFlags = {{
    {"async", MS_SYNCHRONOUS, false},
    {"atime", MS_NOATIME, false},
    {"dev", MS_NODEV, false},
    {"diratime", MS_NODIRATIME, false},
    {"exec", MS_NOEXEC, false},
    {"noatime", MS_NOATIME, true},
    {"nodev", MS_NODEV, true},
    {"nodiratime", MS_NODIRATIME, true},
    {"noexec", MS_NOEXEC, true},
    {"nosuid", MS_NOSUID, true},
    {"relatime", MS_RELATIME, true},
    {"ro", MS_RDONLY, true},
    {"rw", MS_RDONLY, false},
    {"suid", MS_NOSUID, false},
    {"sync", MS_SYNCHRONOUS, true},
}};
constexpr std::array<std::string_view, 4> kFuseFlags = {"allow_other", "allow_root", "auto_unmount",
                                                        "default_permissions"};
constexpr std::string_view kSourceKey = "fsname=";
constexpr std::array<std::string_view, 2> kKeys = {kSourceKey, "subtype="};
/// Those of mount(2) that libfuse does not know. On a file system that is read-only and cached for
/// ever they change nothing.
constexpr std::array<std::string_view, 3> kWithoutEffect = {"diratime", "relatime", "rw"};

const KernelFlag* find_kernel_flag(std::string_view option) {
  const auto* const found =
      std::find_if(kKernelFlags.begin(), kKernelFlags.end(),
                   [&](const KernelFlag& flag) { return flag.name == option; });
  return found == kKernelFlags.end() ? nullptr : found;
}

template <typename Names>
bool is_one_of(std::string_view option, const Names& names) {
  return std::find(names.begin(), names.end(), option) != names.end();
}

void check(const std::string& option) {
  if (find_kernel_flag(option) != nullptr || is_one_of(option, kFuseFlags)) return;
  for (const auto key : kKeys) {
    if (option.starts_with(key) && option.size() > key.size()) return;
  }
  std::vector<std::string_view> known(kFuseFlags.begin(), kFuseFlags.end());
  for (const auto& flag : kKernelFlags) known.push_back(flag.name);
  std::sort(known.begin(), known.end());
  throw UsageError(fmt::format("There is no mount option \"{}\". There are: {}, {}NAME.", option,
                               fmt::join(known, ", "), fmt::join(kKeys, "NAME, ")));
}

void check_kind(const std::string& option, bool writable) {
  if (!writable && option == "rw") {
    throw UsageError(
        "The mount option \"rw\" cannot be had: an image is read-only. A writable view of it is "
        "what --writable gives.");
  }
  // auto_unmount would not find the image below the overlay.
  if (writable && (option == "ro" || option == "auto_unmount")) {
    throw UsageError(fmt::format(
        "The mount option \"{}\" cannot be had together with --writable or --persist.", option));
  }
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
                                                const std::string& source, MountKind kind) {
  auto asked = split(requested);
  for (const auto& option : asked) {
    check(option);
    check_kind(option, kind.writable);
  }
  std::erase_if(asked, [](const auto& option) { return is_one_of(option, kWithoutEffect); });

  std::vector<std::string> options = {"ro", "default_permissions", "subtype=puzzlefs"};
  if (!source.empty()) options.push_back(std::string(kSourceKey) + escape(source));
  if (kind.privileged) {
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

unsigned long kernel_mount_flags(const std::vector<std::string>& requested) {
  unsigned long flags = 0;
  for (const auto& option : split(requested)) {
    if (const auto* known = find_kernel_flag(option)) {
      flags = known->set ? flags | known->flag : flags & ~known->flag;
    }
  }
  return flags;
}

}  // namespace puzzlefs::fs
