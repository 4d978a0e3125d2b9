#include "fetch/paths.h"

#include <algorithm>
#include <system_error>

namespace puzzlefs::fetch {
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

}  // namespace

bool lies_in(const fs::path& path, const fs::path& directory) {
  const auto inner = resolved(path);
  const auto outer = resolved(directory);
  const auto [end, unused] = std::mismatch(outer.begin(), outer.end(), inner.begin(), inner.end());
  return end == outer.end();
}

}  // namespace puzzlefs::fetch
