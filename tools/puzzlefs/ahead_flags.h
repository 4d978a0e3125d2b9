// Options of what a mount fetches before anybody reads it.
#pragma once

#include <filesystem>
#include <string>

#include "fetch/prefetcher.h"
#include "puzzlefs/arguments.h"

namespace puzzlefs::tools {

/// --prefetch and --background-fetch.
class AheadFlags {
 public:
  void add_to(Arguments& arguments);
  /// Reads the trace. Throws Error; UsageError for a rate that makes no sense, and for a background
  /// that is to fetch although no registry is asked.
  fetch::PrefetchOptions options(bool offline) const;

 private:
  std::filesystem::path trace_;
  std::string background_;
};

}  // namespace puzzlefs::tools
