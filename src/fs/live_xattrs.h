// Extended attributes by which a mount tells of itself.
#pragma once

#include <functional>
#include <map>
#include <string>

namespace puzzlefs::fs {

/// Attributes of the root of a mount, beside those of the image, which win. A program that asks for
/// one by name gets it; they are not listed, lest copies of the tree have them. A value is made
/// when it is asked for, by any thread, which must not block.
using LiveXattrs = std::map<std::string, std::function<std::string()>, std::less<>>;

inline constexpr const char* kImageXattr = "user.puzzlefs.image";    // the name with its digest
inline constexpr const char* kStatsXattr = "user.puzzlefs.stats";    // as to_json(MountStats)
inline constexpr const char* kSocketXattr = "user.puzzlefs.socket";  // the control socket's path

}  // namespace puzzlefs::fs
