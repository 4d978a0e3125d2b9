// Mounts as the kernel lists them, and unmounting. A mount whose server has died answers every
// stat(2) with ENOTCONN, so that mounts are found by name in mountinfo and never by looking at
// them.
#include "fs/unmount.h"

#include <spdlog/fmt/fmt.h>
#include <sys/mount.h>
#include <unistd.h>

#include <algorithm>
#include <boost/algorithm/string/classification.hpp>
#include <boost/algorithm/string/split.hpp>
#include <cerrno>
#include <fstream>
#include <sstream>
#include <vector>

#include "format/error.h"
#include "fs/fusermount.h"
#include "fs/overlay.h"

namespace puzzlefs::fs {
namespace {

bool is_octal(char c) {
  return c >= '0' && c <= '7';
}

/// Undoes the kernel's escapes: a space stands as \040.
std::string unescape(std::string_view text) {
  std::string plain;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\\' && i + 3 < text.size() && is_octal(text[i + 1]) && is_octal(text[i + 2]) &&
        is_octal(text[i + 3])) {
      plain += static_cast<char>((text[i + 1] - '0') * 64 + (text[i + 2] - '0') * 8 +
                                 (text[i + 3] - '0'));
      i += 3;
    } else {
      plain += text[i];
    }
  }
  return plain;
}

std::optional<Mount> parse_line(std::string_view line) {
  // ID parent major:minor root mountpoint options [tags…] - type source super-options
  std::vector<std::string> fields;
  boost::algorithm::split(fields, line, boost::algorithm::is_any_of(" "));
  constexpr std::size_t kFirstTag = 6;
  std::size_t separator = kFirstTag;
  while (separator < fields.size() && fields[separator] != "-") ++separator;
  if (separator + 2 >= fields.size()) return std::nullopt;
  return Mount{.mountpoint = unescape(fields[4]),
               .device = fields[2],
               .type = unescape(fields[separator + 1]),
               .source = unescape(fields[separator + 2])};
}

/// The path as mountinfo has it: absolute, without links. Of the last component of a dead mount
/// nothing can be asked, so that there the directory above it is resolved.
std::string resolved(const std::filesystem::path& path) {
  std::error_code error;
  if (const auto real = std::filesystem::canonical(path, error); !error) return real;
  auto plain = std::filesystem::absolute(path).lexically_normal();
  if (!plain.has_filename()) plain = plain.parent_path();
  const auto parent = std::filesystem::canonical(plain.parent_path(), error);
  return error ? plain : parent / plain.filename();
}

/// `mounts` are those at `place`. Of a writable one umount(8) leaves the image below.
void unmount_writable(const std::filesystem::path& place, const std::vector<Mount>& mounts,
                      bool lazy) {
  const auto overlay = std::find_if(mounts.begin(), mounts.end(),
                                    [](const Mount& mount) { return mount.type == kOverlayType; });
  if (overlay != mounts.end() && mounts.back().type != kOverlayType) {
    throw Error(EBUSY,
                fmt::format("The image at {0} is covered by a mount of type {1}. Unmount that "
                            "first, with \"umount {0}\".",
                            place.native(), mounts.back().type));
  }
  if (overlay != mounts.end()) unmount_topmost(place, lazy);
  unmount_topmost(overlay_lower(place), lazy);
  // Those who still use it need the directories; its server removes them at the end.
  if (!lazy) remove_overlay_directories(place);
}

}  // namespace

std::vector<Mount> mounts_at(std::string_view mountinfo, const std::string& mountpoint) {
  std::vector<Mount> found;
  while (!mountinfo.empty()) {
    const auto line = mountinfo.substr(0, mountinfo.find('\n'));
    mountinfo.remove_prefix(std::min(line.size() + 1, mountinfo.size()));
    auto mount = parse_line(line);
    if (mount && mount->mountpoint == mountpoint) found.push_back(std::move(*mount));
  }
  return found;
}

std::optional<Mount> find_mount(std::string_view mountinfo, const std::string& mountpoint) {
  auto mounts = mounts_at(mountinfo, mountpoint);
  return mounts.empty() ? std::nullopt : std::optional(std::move(mounts.back()));
}

std::string read_mountinfo() {
  std::ifstream file("/proc/self/mountinfo");
  std::ostringstream text;
  text << file.rdbuf();
  if (!file) throw Error(EIO, "Cannot read /proc/self/mountinfo. Is /proc mounted?");
  return text.str();
}

std::optional<Mount> mount_at(const std::filesystem::path& mountpoint) {
  return find_mount(read_mountinfo(), resolved(mountpoint));
}

void unmount_topmost(const std::filesystem::path& place, bool lazy) {
  if (::umount2(place.c_str(), UMOUNT_NOFOLLOW | (lazy ? MNT_DETACH : 0)) == 0) return;
  if (errno == EBUSY) {
    throw Error(EBUSY, fmt::format("{} is busy: a program has a file open or its working directory "
                                   "there. End it (fuser -m {} lists it), or unmount lazily.",
                                   place.native(), place.native()));
  }
  if (errno != EPERM) throw_errno("unmount " + place.native());
  fusermount_unmount(place.native(), lazy);
}

void unmount(const std::filesystem::path& mountpoint, bool lazy) {
  const std::filesystem::path place = resolved(mountpoint);
  const auto mountinfo = read_mountinfo();
  const auto mounts = mounts_at(mountinfo, place);
  const auto image = find_mount(mountinfo, overlay_lower(place));
  if (image && image->type == kLowerType) return unmount_writable(place, mounts, lazy);
  if (mounts.empty()) {
    throw Error(EINVAL, fmt::format("Nothing is mounted at {}.", mountpoint.native()));
  }
  if (mounts.back().type != kMountType) {
    throw Error(EINVAL, fmt::format("{} is not a puzzlefs mount: a file system of type {} is "
                                    "mounted there. Unmount it with umount.",
                                    mountpoint.native(), mounts.back().type));
  }
  unmount_topmost(place, lazy);
}

}  // namespace puzzlefs::fs
