#include "build/source_tree.h"

#include <spdlog/spdlog.h>

#include <system_error>

#include "fetch/paths.h"
#include "format/error.h"

namespace puzzlefs::build {
namespace {

namespace fs = std::filesystem;

bool is_bundle(const fs::path& directory) {
  std::error_code error;
  return fs::is_regular_file(directory / "config.json", error) &&
         fs::is_directory(directory / "rootfs", error);
}

}  // namespace

void check_source(const fs::path& rootfs, const fs::path& layout) {
  if (fetch::lies_in(layout, rootfs)) {
    throw UsageError("The layout " + layout.string() + " lies in the tree " + rootfs.string() +
                     ", which would be built into itself. Give a layout elsewhere.");
  }
  if (is_bundle(rootfs)) {
    spdlog::warn("{} is a bundle; for an image of the tree in it build {}.", rootfs.string(),
                 (rootfs / "rootfs").string());
  }
}

}  // namespace puzzlefs::build
