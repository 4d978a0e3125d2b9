// What a mount tells of itself, as text for programs.
#pragma once

#include <string>
#include <string_view>

#include "fetch/fetch_stats.h"

namespace puzzlefs::fs {

struct MountStats {
  std::string image;  // its name with the digest
  fetch::FetchCounts counts;

  /// The part of the chunks that readers got without waiting for the network; 1 if they got none.
  double hit_rate() const;
};

/// One JSON object: image, requests, bytes_fetched, bytes_fetched_to_open, bytes_needed,
/// chunks_from_memory, chunks_from_disk, chunks_from_network, chunks_failed, hit_rate and
/// seconds_waited.
std::string to_json(const MountStats& stats);
/// The reverse; hit_rate is not looked at. Throws CorruptError.
MountStats parse_mount_stats(std::string_view json);

/// Prometheus' text format, version 0.0.4: counters with the label "image".
std::string to_prometheus(const MountStats& stats);
inline constexpr std::string_view kPrometheusType = "text/plain; version=0.0.4; charset=utf-8";

}  // namespace puzzlefs::fs
