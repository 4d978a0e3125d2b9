// fusermount3, the set-user-ID program that mounts and unmounts for users without the privilege.
#pragma once

#include <string>

namespace puzzlefs::fs {

/// Whether the program is installed.
bool has_fusermount();

/// Unmounts by fusermount3. Throws Error with what it printed, or saying how to install it.
void fusermount_unmount(const std::string& mountpoint, bool lazy);

}  // namespace puzzlefs::fs
