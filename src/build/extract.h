// From an image to a directory tree.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>

#include "build/left_out.h"
#include "fetch/image.h"

namespace puzzlefs::build {

struct ExtractResult {
  std::uint64_t inodes = 0;
  std::uint64_t bytes = 0;
  LeftOut left_out;
};

/// Writes the image's tree into `target`, which is made if missing and must be empty. Nothing is
/// ever written outside it, however hostile the image: every step is relative to an open directory
/// and follows no link. Owners, devices and trusted and security attributes need privilege; what
/// the caller may not make is left out and counted. Throws Error.
ExtractResult extract_image(fetch::Image& image, const std::filesystem::path& target,
                            const std::function<void(std::uint64_t bytes)>& on_progress = {});

}  // namespace puzzlefs::build
