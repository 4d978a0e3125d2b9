// The options a file system is mounted with.
#pragma once

#include <string>
#include <vector>

namespace puzzlefs::fs {

/// Checks the options a user asked for (each may be a comma-separated list, as after mount(8)'s -o)
/// and adds those that always hold: read-only, permissions checked by the kernel, type and source.
/// A privileged mount is open to all users and honours devices and set-user-ID bits unless told
/// otherwise: containers need all three. Returns each option as libfuse takes it after "-o".
/// Throws UsageError for an option that is unknown or cannot be had, listing those that can.
std::vector<std::string> complete_mount_options(const std::vector<std::string>& requested,
                                                const std::string& source, bool privileged);

}  // namespace puzzlefs::fs
