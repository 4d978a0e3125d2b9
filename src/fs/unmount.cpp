// Mounts as the kernel lists them, and unmounting. A mount whose server has died answers every
// stat(2) with ENOTCONN, so that mounts are found by name in mountinfo and never by looking at
// them.
#include "fs/unmount.h"

#include <spdlog/fmt/fmt.h>
#include <sys/mount.h>
#include <unistd.h>

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

/// `place` is as in mountinfo.
void unmount_one(const std::filesystem::path& place, bool lazy) {
  if (::umount2(place.c_str(), UMOUNT_NOFOLLOW | (lazy ? MNT_DETACH : 0)) == 0) return;
  if (errno == EBUSY) {
    throw Error(EBUSY, fmt::format("{} is busy: a program has a file open or its working directory "
                                   "there. End it (fuser -m {} lists it), or unmount lazily.",
                                   place.native(), place.native()));
  }
  if (errno != EPERM) throw_errno("unmount " + place.native());
  fusermount_unmount(place.native(), lazy);
}

}  // namespace

std::optional<Mount> find_mount(std::string_view mountinfo, const std::string& mountpoint) {
  std::optional<Mount> topmost;
  while (!mountinfo.empty()) {
    const auto line = mountinfo.substr(0, mountinfo.find('\n'));
    mountinfo.remove_prefix(std::min(line.size() + 1, mountinfo.size()));
    auto mount = parse_line(line);
    // A mount on top of another at the same place is listed after it.
    if (mount && mount->mountpoint == mountpoint) topmost = std::move(mount);
  }
  return topmost;
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

void unmount(const std::filesystem::path& mountpoint, bool lazy) {
  const std::filesystem::path place = resolved(mountpoint);
  const auto mountinfo = read_mountinfo();
  const auto lower = overlay_lower(place);
  const bool overlaid = is_overlay(mountinfo, place);
  const auto mount = find_mount(mountinfo, place);
  if (overlaid) {
    unmount_one(place, lazy);
  } else if (mount && mount->type != kMountType) {
    throw Error(EINVAL, fmt::format("{} is not a puzzlefs mount: a file system of type {} is "
                                    "mounted there. Unmount it with umount.",
                                    mountpoint.native(), mount->type));
  } else if (mount) {
    return unmount_one(place, lazy);
  }
  // What umount(8) leaves of a writable mount is found here too.
  const auto image = find_mount(mountinfo, lower);
  if (!image || image->type != kMountType) {
    throw Error(EINVAL, fmt::format("Nothing is mounted at {}.", mountpoint.native()));
  }
  unmount_one(lower, lazy);
  remove_overlay_directories(place);
}

}  // namespace puzzlefs::fs
