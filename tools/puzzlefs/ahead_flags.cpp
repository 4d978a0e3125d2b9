#include "puzzlefs/ahead_flags.h"

#include <cstdint>
#include <optional>

#include "fetch/file_descriptor.h"
#include "format/error.h"
#include "puzzlefs/cache_flags.h"

namespace puzzlefs::tools {

namespace {

constexpr std::uint64_t kLeastRate = 1 << 10;  // less would be a mistake
constexpr std::uint64_t kMaxTraceSize = 64 << 20;

std::optional<std::uint64_t> parse_rate(const std::string& text) {
  if (text == "true") return std::nullopt;
  const auto rate = parse_size(text);
  if (rate && *rate >= kLeastRate) return rate;
  throw UsageError("--background-fetch is \"" + text +
                   "\"; it can be a number of bytes a second, also with K, M, G or T behind it, of "
                   "at least 1K, as in --background-fetch=500K, or nothing.");
}

}  // namespace

void AheadFlags::add_to(Arguments& arguments) {
  arguments.option("--prefetch", trace_, "FILE|none",
                   "Fetch what this trace says first, in its order; by default what the image "
                   "marks, or a trace attached to it");
  arguments.flag("--background-fetch", background_,
                 "Fetch all of the image; --background-fetch=RATE: RATE bytes a second, as in 2M");
}

fetch::PrefetchOptions AheadFlags::options(bool offline) const {
  fetch::PrefetchOptions options;
  options.attached = trace_.empty();
  if (trace_ == "none") {
    options.trace = format::Trace();
  } else if (!trace_.empty()) {
    const auto text = fetch::read_file(trace_, kMaxTraceSize);
    options.trace = format::parse_trace(text, trace_.string());
  }
  if (background_.empty()) return options;
  if (offline) {
    throw UsageError("--background-fetch fetches from a registry, and --offline asks none.");
  }
  options.everything = true;
  options.rate = parse_rate(background_);
  return options;
}

}  // namespace puzzlefs::tools
