// Options that say which cache is meant, and how large it may become.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>

#include "fetch/cache.h"
#include "puzzlefs/arguments.h"

namespace puzzlefs::tools {

/// --cache-dir and --cache-size.
class CacheFlags {
 public:
  void add_directory_to(Arguments& arguments);
  void add_size_to(Arguments& arguments);
  /// The default without the option. Absolute, for a daemon that works in "/".
  std::filesystem::path directory() const;
  /// Throws UsageError.
  fetch::CacheLimits limits() const;
  /// Whether there was any of them.
  bool given() const { return !directory_.empty() || size_; }

 private:
  std::filesystem::path directory_;
  std::optional<std::string> size_;
};

/// A number of bytes, or of KiB, MiB, GiB and TiB with a letter behind it, as in "10G". Nothing for
/// anything else.
std::optional<std::uint64_t> parse_size(std::string_view text);

}  // namespace puzzlefs::tools
