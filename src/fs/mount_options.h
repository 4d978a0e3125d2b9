// The options a file system is mounted with.
#pragma once

#include <string>
#include <vector>

namespace puzzlefs::fs {

struct MountKind {
  bool privileged = false;  // made by root
  bool writable = false;    // the image lies below an overlay
};

/// Checks the options a user asked for (each may be a comma-separated list, as after mount(8)'s -o,
/// where a backslash guards a comma) and adds those that always hold for the image: read-only,
/// permissions checked by the kernel, type and source. A privileged mount is open to all users and
/// honours devices and set-user-ID bits unless told otherwise: containers need all three. Returns
/// each option as libfuse takes it after "-o". Throws UsageError for an option that is unknown or
/// cannot be had, listing those that can.
std::vector<std::string> complete_mount_options(const std::vector<std::string>& requested,
                                                const std::string& source, MountKind kind);

/// What the last "fsname=" among the requested options says, else `source`.
std::string source_option(const std::vector<std::string>& requested, const std::string& source);
/// What the last "max_read=" among the requested options says, else 0. libfuse wants to be told it
/// twice. Throws UsageError for what is no number of bytes from 4096 on, the size of a page.
unsigned max_read_option(const std::vector<std::string>& requested);
/// The flags of mount(2) among the requested options; the last of contradicting ones wins.
unsigned long kernel_mount_flags(const std::vector<std::string>& requested);

}  // namespace puzzlefs::fs
