// What goes wrong with a cache is told once for each kind of trouble, or it would fill the log.
#pragma once

#include <atomic>
#include <filesystem>
#include <string>

namespace puzzlefs::fetch {

enum class CacheTrouble : unsigned { kRead = 1, kWrite = 2, kIndex = 4, kFull = 8, kDamage = 16 };

/// Thread-safe.
class CacheTroubles {
 public:
  /// Logs "<consequence>: <reason>", unless there was a warning of that kind.
  void warn_once(CacheTrouble trouble, const std::string& consequence, const char* reason);

  /// Logs that an item is not used and moved to `refuge`. After a crash of the machine there may be
  /// thousands: unless they are looked for (`is_use` is false) the first is a warning.
  void tell_of_damage(const std::string& item, const std::filesystem::path& refuge,
                      const std::string& reason, bool is_use);

 private:
  /// Whether there was no warning of that kind, and is to be one now.
  bool is_first(CacheTrouble trouble);

  std::atomic<unsigned> warned_ = 0;  // CacheTrouble bits
};

}  // namespace puzzlefs::fetch
