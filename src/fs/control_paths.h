// Where the control sockets of mounts are. They are named after the device number of the mount,
// which the kernel shows in mountinfo, also of an image below an overlay, and which no other mount
// of the machine has meanwhile; and after the process, so that one that is ending takes away its
// own only.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace puzzlefs::fs {

/// The directories, best first: /run/puzzlefs for root, $XDG_RUNTIME_DIR/puzzlefs, and "sockets" in
/// the user's default cache.
std::vector<std::filesystem::path> control_directories();

/// A path for the socket of this process's mount with that device number ("0:57"), in the first of
/// `directories` that can be had: it is made, and must belong to the user alone. What servers that
/// were killed have left there for an earlier mount of that number is removed. Throws Error.
std::filesystem::path make_control_path(const std::vector<std::filesystem::path>& directories,
                                        const std::string& device);

/// The sockets that there are for a mount. Some may be left of servers that were killed.
std::vector<std::filesystem::path> find_control_paths(
    const std::vector<std::filesystem::path>& directories, const std::string& device);

}  // namespace puzzlefs::fs
