#include "build/source_tree.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <system_error>

#include "format/error.h"

namespace puzzlefs::build {
namespace {

namespace fs = std::filesystem;

// With links resolved as far as it exists; as given where that fails, for others to complain of.
fs::path resolved(const fs::path& path) {
  std::error_code error;
  fs::path canonical = fs::weakly_canonical(fs::absolute(path, error), error);
  if (error) return path;
  if (!canonical.has_filename()) canonical = canonical.parent_path();  // "x/" is x
  return canonical;
}

bool lies_in(const fs::path& path, const fs::path& directory) {
  const auto [end, unused] =
      std::mismatch(directory.begin(), directory.end(), path.begin(), path.end());
  return end == directory.end();
}

bool is_bundle(const fs::path& directory) {
  std::error_code error;
  return fs::is_regular_file(directory / "config.json", error) &&
         fs::is_directory(directory / "rootfs", error);
}

}  // namespace

void check_source(const fs::path& rootfs, const fs::path& layout) {
  if (lies_in(resolved(layout), resolved(rootfs))) {
    throw UsageError("The layout " + layout.string() + " lies in the tree " + rootfs.string() +
                     ", which would be built into itself. Give a layout elsewhere.");
  }
  if (is_bundle(rootfs)) {
    spdlog::warn("{} is a bundle; for an image of the tree in it build {}.", rootfs.string(),
                 (rootfs / "rootfs").string());
  }
}

}  // namespace puzzlefs::build
