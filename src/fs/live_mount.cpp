// By the socket, else, for those who may not use it, by the attributes of the root. These an image
// can have of its own, and those of an image below an overlay are hidden: overlayfs looks for the
// attributes of its root in the upper directory only.
#include "fs/live_mount.h"

#include <linux/limits.h>
#include <spdlog/fmt/fmt.h>
#include <spdlog/spdlog.h>
#include <sys/xattr.h>

#include <cerrno>
#include <optional>
#include <utility>

#include "fetch/http_client.h"
#include "format/error.h"
#include "fs/control_paths.h"
#include "fs/live_xattrs.h"
#include "fs/overlay.h"

namespace puzzlefs::fs {
namespace {

constexpr std::uint64_t kMaxAnswerSize = 64 << 20;

[[noreturn]] void fail_dead(const std::filesystem::path& mountpoint) {
  throw Error(ENOTCONN, fmt::format("The server of the mount at {0} has died. Unmount it, with "
                                    "\"puzzlefs umount {0}\".",
                                    mountpoint.native()));
}

[[noreturn]] void fail_silent(const std::filesystem::path& mountpoint) {
  throw Error(EACCES,
              fmt::format("The server of the mount at {} does not answer at a socket: it has died, "
                          "has none, or only the user who has mounted it may use it.",
                          mountpoint.native()));
}

/// Nothing if nobody answers there.
std::optional<fetch::HttpResponse> get(const std::filesystem::path& socket,
                                       const std::string& target) {
  fetch::Runtime runtime(1);
  fetch::HttpClient client(runtime);
  try {
    return fetch::wait_for<fetch::HttpResponse>([&](auto done) {
      client.send({.url = "http://localhost" + target,
                   .unix_socket = socket,
                   .max_body_size = kMaxAnswerSize},
                  std::move(done));
    });
  } catch (const fetch::TransportError& error) {
    spdlog::debug("{}: {}", socket.native(), error.what());
    return std::nullopt;
  }
}

}  // namespace

LiveMount LiveMount::find(const std::filesystem::path& mountpoint) {
  const auto mount = mount_at(mountpoint);
  if (!mount) {
    throw Error(EINVAL, fmt::format("Nothing is mounted at {}.", mountpoint.native()));
  }
  if (mount->type == kOverlayType) {
    const auto lower = find_mount(read_mountinfo(), overlay_lower(mount->mountpoint));
    if (lower && lower->type == kLowerType) return {mountpoint, *lower};
  }
  if (mount->type != kMountType) {
    throw Error(EINVAL, fmt::format("{} is not a puzzlefs mount: a file system of type {} is "
                                    "mounted there.",
                                    mountpoint.native(), mount->type));
  }
  return {mountpoint, *mount};
}

std::optional<std::string> LiveMount::attribute(const char* name) const {
  if (mount_.type == kLowerType) return std::nullopt;
  std::string value(XATTR_SIZE_MAX, '\0');
  const auto size = ::getxattr(mountpoint_.c_str(), name, value.data(), value.size());
  if (size < 0) {
    if (errno == ENOTCONN) fail_dead(mountpoint_);
    return std::nullopt;
  }
  value.resize(static_cast<std::size_t>(size));
  return value;
}

MountStats LiveMount::stats() const {
  auto text = try_to_ask("/stats");
  if (!text) text = attribute(kStatsXattr);
  if (!text) fail_silent(mountpoint_);
  return parse_mount_stats(*text);
}

std::string LiveMount::ask(const std::string& target) const {
  auto answer = try_to_ask(target);
  if (!answer) fail_silent(mountpoint_);
  return *std::move(answer);
}

std::optional<std::string> LiveMount::try_to_ask(const std::string& target) const {
  // Those that are found by themselves are no invention of the image. A dead server's may be among
  // them, as device numbers come again.
  for (const auto& socket : find_control_paths(control_directories(), mount_.device)) {
    if (auto answer = ask_at(socket, target)) return answer;
  }
  const auto path = attribute(kSocketXattr);
  return path ? ask_at(*path, target) : std::nullopt;
}

std::optional<std::string> LiveMount::ask_at(const std::filesystem::path& socket,
                                             const std::string& target) const {
  const auto response = get(socket, target);
  if (!response) return std::nullopt;
  std::string body(as_text(response->body));
  if (response->status == 200) return body;
  throw Error(EIO, fmt::format("The server of the mount at {} answers with status {}: {}",
                               mountpoint_.native(), response->status, body));
}

}  // namespace puzzlefs::fs
