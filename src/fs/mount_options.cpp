// Checking mount options. libfuse would refuse unknown ones as well, but in its own words, without
// saying which there are.
#include "fs/mount_options.h"

#include <spdlog/fmt/fmt.h>
#include <sys/mount.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <string_view>
#include <utility>

#include "format/error.h"

namespace puzzlefs::fs {
namespace {

/// The flags of mount(2) by the names that mount(8) gives them.
struct KernelFlag {
  std::string_view name;
  unsigned long flag = 0;
  bool set = true;
  /// Whether libfuse knows it. The others change nothing in an image, which is read-only and cached
  /// for ever, but may in an overlay on top of it.
  bool for_image = false;
};
constexpr std::array<KernelFlag, 27> kKernelFlags = {{
    {"async", MS_SYNCHRONOUS, false, true},
    {"atime", MS_NOATIME, false, true},
    {"dev", MS_NODEV, false, true},
    {"diratime", MS_NODIRATIME, false},
    {"dirsync", MS_DIRSYNC, true, true},
    {"exec", MS_NOEXEC, false, true},
    {"iversion", MS_I_VERSION, true},
    {"lazytime", MS_LAZYTIME, true},
    {"loud", MS_SILENT, false},
    {"mand", MS_MANDLOCK, true},
    {"noatime", MS_NOATIME, true, true},
    {"nodev", MS_NODEV, true, true},
    {"nodiratime", MS_NODIRATIME, true},
    {"noexec", MS_NOEXEC, true, true},
    {"noiversion", MS_I_VERSION, false},
    {"nolazytime", MS_LAZYTIME, false},
    {"nomand", MS_MANDLOCK, false},
    {"norelatime", MS_RELATIME, false},
    {"nostrictatime", MS_STRICTATIME, false},
    {"nosuid", MS_NOSUID, true, true},
    {"relatime", MS_RELATIME, true},
    {"ro", MS_RDONLY, true, true},
    {"rw", MS_RDONLY, false},
    {"silent", MS_SILENT, true},
    {"strictatime", MS_STRICTATIME, true},
    {"suid", MS_NOSUID, false, true},
    {"sync", MS_SYNCHRONOUS, true, true},
}};
/// libfuse's own, and fusermount3's.
constexpr std::array<std::string_view, 4> kFuseFlags = {"allow_other", "allow_root", "auto_unmount",
                                                        "default_permissions"};
constexpr std::string_view kSourceKey = "fsname=";
constexpr std::string_view kMaxReadKey = "max_read=";
constexpr std::array<std::string_view, 3> kKeys = {kSourceKey, kMaxReadKey, "subtype="};
constexpr unsigned kMinMaxRead = 4096;
/// What mount(8) keeps to itself; it stands in /etc/fstab and may be passed on.
constexpr std::array<std::string_view, 11> kForMount8 = {"_netdev", "auto",   "defaults", "group",
                                                         "noauto",  "nofail", "nogroup",  "nouser",
                                                         "owner",   "user",   "users"};
constexpr std::array<std::string_view, 3> kKeysForMount8 = {"comment=", "x-", "X-"};
/// The overlay could not restrict its users; auto_unmount would not find the image below it, nor
/// would unmounting with another type.
constexpr std::array<std::string_view, 3> kNotWithOverlay = {"allow_root", "auto_unmount", "ro"};

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

template <typename Keys>
bool has_key(std::string_view option, const Keys& keys) {
  return std::any_of(keys.begin(), keys.end(), [&](std::string_view key) {
    return option.starts_with(key) && option.size() > key.size();
  });
}

bool is_for_mount8(std::string_view option) {
  return is_one_of(option, kForMount8) || has_key(option, kKeysForMount8);
}

void check(const std::string& option) {
  if (find_kernel_flag(option) != nullptr || is_one_of(option, kFuseFlags)) return;
  if (has_key(option, kKeys) || is_for_mount8(option)) return;
  std::vector<std::string_view> known(kFuseFlags.begin(), kFuseFlags.end());
  for (const auto& flag : kKernelFlags) known.push_back(flag.name);
  std::sort(known.begin(), known.end());
  throw UsageError(fmt::format("There is no mount option \"{}\". There are: {}, {}VALUE.", option,
                               fmt::join(known, ", "), fmt::join(kKeys, "VALUE, ")));
}

void check_kind(const std::string& option, bool writable) {
  if (!writable && option == "rw") {
    throw UsageError(
        "The mount option \"rw\" cannot be had: an image is read-only. A writable view of it is "
        "what --writable gives.");
  }
  if (writable && (is_one_of(option, kNotWithOverlay) || option.starts_with("subtype="))) {
    throw UsageError(fmt::format(
        "The mount option \"{}\" cannot be had together with --writable or --persist.", option));
  }
}

/// Whether libfuse is to be told.
bool is_for_image(const std::string& option) {
  const auto* flag = find_kernel_flag(option);
  return flag != nullptr ? flag->for_image : !is_for_mount8(option);
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

/// The options in lists such as "a,b=c\\,d": a backslash takes its meaning from a comma.
std::vector<std::string> split(const std::vector<std::string>& requested) {
  std::vector<std::string> options;
  for (const auto& list : requested) {
    std::string option;
    for (std::size_t i = 0; i < list.size(); ++i) {
      if (list[i] == '\\' && i + 1 < list.size()) {
        option += list[++i];
      } else if (list[i] == ',') {
        options.push_back(std::exchange(option, {}));
      } else {
        option += list[i];
      }
    }
    options.push_back(std::move(option));
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
  std::erase_if(asked, [](const auto& option) { return !is_for_image(option); });

  std::vector<std::string> options = {"ro", "default_permissions"};
  options.push_back(kind.writable ? "subtype=puzzlefs.lower" : "subtype=puzzlefs");
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
  for (const auto& option : asked) options.push_back(escape(option));
  return options;
}

unsigned max_read_option(const std::vector<std::string>& requested) {
  unsigned bytes = 0;
  for (const auto& option : split(requested)) {
    if (!option.starts_with(kMaxReadKey)) continue;
    const char* const end = option.data() + option.size();
    const auto parsed = std::from_chars(option.data() + kMaxReadKey.size(), end, bytes);
    if (parsed.ec != std::errc() || parsed.ptr != end || bytes < kMinMaxRead) {
      throw UsageError(fmt::format(
          "The mount option \"{}\" must give a number of bytes, {} or more.", option, kMinMaxRead));
    }
  }
  return bytes;
}

std::string source_option(const std::vector<std::string>& requested, const std::string& source) {
  std::string result = source;
  for (const auto& option : split(requested)) {
    if (option.starts_with(kSourceKey)) result = option.substr(kSourceKey.size());
  }
  return result;
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
