// What keeps the directories of a cache as they should be.
#pragma once

#include <chrono>
#include <filesystem>
#include <string_view>

namespace puzzlefs::fetch {

/// No write of a cache's file takes this long: its program was killed. One that does is done again.
inline constexpr std::chrono::hours kTempFileLife{1};

/// Makes a directory for its owner only, unless something of that name exists. Throws Error.
void make_directory(const std::filesystem::path& path);

/// Makes a directory of a cache. What else has its name is damage: it is moved into `quarantine`,
/// with a warning. A link to a directory is somebody's wish. Throws Error.
void ensure_directory(const std::filesystem::path& path, const std::filesystem::path& quarantine);

/// Removes the files whose names begin with `prefix` that were changed longer than `life` ago, or
/// are so far in the future that a clock was wrong. Never fails.
void remove_older_than(std::chrono::hours life, const std::filesystem::path& directory,
                       std::string_view prefix = {});

}  // namespace puzzlefs::fetch
