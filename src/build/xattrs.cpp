#include "build/xattrs.h"

#include <linux/limits.h>
#include <spdlog/fmt/fmt.h>
#include <sys/xattr.h>

#include <algorithm>
#include <cerrno>
#include <optional>

#include "format/error.h"

namespace puzzlefs::build {
namespace {

// What `call(buffer, size)` puts into a buffer, as listxattr(2) and getxattr(2) do: first into a
// small one, which nearly always suffices, then into the largest that Linux knows. Nothing, with
// errno set, if the call fails.
template <class Call>
std::optional<std::string> read_value(const Call& call) {
  constexpr std::size_t kUsual = 512;
  for (const std::size_t size : {kUsual, std::size_t{XATTR_SIZE_MAX}}) {
    std::string buffer(size, '\0');
    const ssize_t length = call(buffer.data(), buffer.size());
    if (length < 0 && errno == ERANGE) continue;
    if (length < 0) return std::nullopt;
    buffer.resize(static_cast<std::size_t>(length));
    return buffer;
  }
  return std::nullopt;
}

template <class List, class Get>
std::vector<format::XattrRecord> read_all(const List& list, const Get& get,
                                          const std::string& path) {
  const auto keys = read_value(list);
  if (!keys && errno == ENOTSUP) return {};
  if (!keys) throw_errno("list the extended attributes of " + path);

  std::vector<format::XattrRecord> xattrs;
  for (std::size_t at = 0; at < keys->size();) {
    std::string key = keys->c_str() + at;
    at += key.size() + 1;
    auto value =
        read_value([&](char* buffer, std::size_t size) { return get(key.c_str(), buffer, size); });
    if (!value) throw_errno("read the extended attribute " + key + " of " + path);
    xattrs.push_back({std::move(key), std::move(*value)});
  }
  std::sort(xattrs.begin(), xattrs.end(),
            [](const auto& left, const auto& right) { return left.key < right.key; });
  return xattrs;
}

}  // namespace

std::vector<format::XattrRecord> read_xattrs(int fd, const std::string& path) {
  return read_all([&](char* buffer, std::size_t size) { return ::flistxattr(fd, buffer, size); },
                  [&](const char* key, char* buffer, std::size_t size) {
                    return ::fgetxattr(fd, key, buffer, size);
                  },
                  path);
}

std::vector<format::XattrRecord> read_xattrs_at(int directory, const std::string& name,
                                                const std::string& path) {
  // There is no llistxattrat(2) before Linux 6.13; this path is relative to the descriptor too.
  const std::string link = fmt::format("/proc/self/fd/{}/{}", directory, name);
  return read_all(
      [&](char* buffer, std::size_t size) { return ::llistxattr(link.c_str(), buffer, size); },
      [&](const char* key, char* buffer, std::size_t size) {
        return ::lgetxattr(link.c_str(), key, buffer, size);
      },
      path);
}

}  // namespace puzzlefs::build
