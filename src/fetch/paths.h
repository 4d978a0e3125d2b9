// Questions about paths.
#pragma once

#include <filesystem>

namespace puzzlefs::fetch {

/// Whether `path` is `directory` or lies somewhere in it, links followed. Neither must exist.
bool lies_in(const std::filesystem::path& path, const std::filesystem::path& directory);

}  // namespace puzzlefs::fetch
