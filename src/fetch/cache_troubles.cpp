#include "fetch/cache_troubles.h"

#include <spdlog/spdlog.h>

namespace puzzlefs::fetch {

void CacheTroubles::warn_once(CacheTrouble trouble, const std::string& consequence,
                              const char* reason) {
  if (is_first(trouble)) spdlog::warn("{}: {}", consequence, reason);
}

void CacheTroubles::tell_of_damage(const std::string& item, const std::filesystem::path& refuge,
                                   const std::string& reason, bool is_use) {
  const bool is_loud = !is_use || is_first(CacheTrouble::kDamage);
  spdlog::log(is_loud ? spdlog::level::warn : spdlog::level::debug,
              "{} is not used and moved to {}{}: {}", item, refuge.native(),
              is_use ? ", as are others without a word" : "", reason);
}

bool CacheTroubles::is_first(CacheTrouble trouble) {
  const auto bit = static_cast<unsigned>(trouble);
  return (warned_.fetch_or(bit) & bit) == 0;
}

}  // namespace puzzlefs::fetch
