// Which times of modification an image keeps.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "format/metadata_writer.h"

namespace puzzlefs::build {

enum class Timestamps {
  kKeep,   // as the tree has them
  kClamp,  // none later than the epoch
  kZero,   // none
};

struct TimestampRule {
  Timestamps kind = Timestamps::kKeep;
  std::int64_t epoch = 0;  // seconds since 1970, of kClamp
};

void apply_timestamps(const TimestampRule& rule, std::vector<format::InodeRecord>& inodes);

/// The time that $SOURCE_DATE_EPOCH says, in seconds since 1970; nothing if it is not set or empty.
/// Throws UsageError if it is no such number.
std::optional<std::int64_t> source_date_epoch();

}  // namespace puzzlefs::build
