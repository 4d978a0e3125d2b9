// Whether a directory is fit to be built into an image.
#pragma once

#include <filesystem>

namespace puzzlefs::build {

/// Looks at the tree before a layout is made or changed. Throws UsageError if the layout at
/// `layout`, which need not exist, lies in the tree: the image would swallow itself. Warns if the
/// directory is an OCI runtime bundle, as `umoci unpack` makes them, rather than the tree in it.
void check_source(const std::filesystem::path& rootfs, const std::filesystem::path& layout);

}  // namespace puzzlefs::build
