#include "puzzlefs/cache_flags.h"

#include <charconv>
#include <limits>
#include <string_view>

#include "format/error.h"

namespace puzzlefs::tools {

namespace {

// A cache of less would be busy with itself.
constexpr std::uint64_t kLeastSize = 1 << 20;

// The number that `text` begins with, which is cut off.
std::optional<std::uint64_t> take_number(std::string_view& text) {
  std::uint64_t number = 0;
  const char* const end = text.data() + text.size();
  const auto parsed = std::from_chars(text.data(), end, number);
  if (parsed.ec != std::errc()) return std::nullopt;
  text.remove_prefix(static_cast<std::size_t>(parsed.ptr - text.data()));
  return number;
}

std::optional<unsigned> parse_percent(std::string_view text) {
  const auto number = take_number(text);
  if (!number || text != "%" || *number < 1 || *number > 100) return std::nullopt;
  return static_cast<unsigned>(*number);
}

}  // namespace

std::optional<std::uint64_t> parse_size(std::string_view text) {
  const auto number = take_number(text);
  if (!number || text.size() > 1) return std::nullopt;
  if (text.empty()) return number;
  constexpr std::string_view kUnits = "KMGT";
  const char letter = text[0] >= 'a' ? static_cast<char>(text[0] - 'a' + 'A') : text[0];
  const auto unit = kUnits.find(letter);
  if (unit == std::string_view::npos) return std::nullopt;
  const auto shift = 10 * (unit + 1);
  if (*number > std::numeric_limits<std::uint64_t>::max() >> shift) return std::nullopt;
  return *number << shift;
}

void CacheFlags::add_directory_to(Arguments& arguments) {
  arguments.option("--cache-dir", directory_, "DIR", "Keep what was fetched in this directory");
}

void CacheFlags::add_size_to(Arguments& arguments) {
  arguments.option("--cache-size", size_, "SIZE|N%",
                   "Let the cache take so much, as in 10G, or of its file system (25%)");
}

std::filesystem::path CacheFlags::directory() const {
  return directory_.empty() ? fetch::default_cache_directory()
                            : std::filesystem::absolute(directory_);
}

fetch::CacheLimits CacheFlags::limits() const {
  fetch::CacheLimits limits;
  if (!size_) return limits;
  if (const auto percent = parse_percent(*size_)) {
    limits.percent = *percent;
    return limits;
  }
  limits.size = parse_size(*size_);
  if (!limits.size || *limits.size < kLeastSize) {
    throw UsageError("--cache-size is \"" + *size_ +
                     "\"; it can be a number of bytes, also with K, M, G or T behind it, of at "
                     "least 1M, as in --cache-size=10G, or a share of the file system from 1% to "
                     "100%, as in --cache-size=25%.");
  }
  return limits;
}

}  // namespace puzzlefs::tools
