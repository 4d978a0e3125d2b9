// The figures as JSON and for Prometheus, from one table of them.
#include "fs/mount_stats.h"

#include <spdlog/fmt/fmt.h>

#include <array>
#include <chrono>
#include <nlohmann/json.hpp>

#include "format/error.h"

namespace puzzlefs::fs {
namespace {

using Json = nlohmann::ordered_json;
using Seconds = std::chrono::duration<double>;
using fetch::FetchCounts;

struct Figure {
  const char* name;  // in JSON
  std::uint64_t FetchCounts::*value;
  const char* metric;  // for Prometheus; those of one metric stand together
  const char* label;
  const char* help;
};

constexpr auto kFigures = std::to_array<Figure>({
    {"requests", &FetchCounts::requests, "requests_total", "", "HTTP requests that were answered."},
    {"bytes_fetched", &FetchCounts::bytes_fetched, "fetched_bytes_total", "",
     "Bytes of the bodies of HTTP answers."},
    {"bytes_fetched_to_open", &FetchCounts::bytes_fetched_to_open, "fetched_to_open_bytes_total",
     "", "Bytes of those that came until the image was open."},
    {"bytes_needed", &FetchCounts::bytes_needed, "needed_bytes_total", "",
     "Bytes of the chunks that readers asked for, each once and as stored."},
    {"chunks_from_memory", &FetchCounts::chunks_from_memory, "chunk_reads_total",
     ",source=\"memory\"", "Chunks that readers asked for, by where they were."},
    {"chunks_from_disk", &FetchCounts::chunks_from_disk, "chunk_reads_total", ",source=\"disk\"",
     ""},
    {"chunks_from_network", &FetchCounts::chunks_from_network, "chunk_reads_total",
     ",source=\"network\"", ""},
    {"chunks_failed", &FetchCounts::chunks_failed, "failed_chunk_reads_total", "",
     "Chunks that readers asked for and did not get."},
});

constexpr const char* kSeconds = "seconds_waited";

double seconds_waited(const FetchCounts& counts) {
  return std::chrono::duration_cast<Seconds>(counts.time_waited).count();
}

/// For a label's value, between quotes.
std::string escaped(std::string_view text) {
  std::string result;
  for (const char c : text) {
    if (c == '\\' || c == '"') result += '\\';
    if (c == '\n') {
      result += "\\n";
    } else {
      result += c;
    }
  }
  return result;
}

std::string metric_head(std::string_view metric, std::string_view help) {
  return fmt::format("# HELP puzzlefs_{0} {1}\n# TYPE puzzlefs_{0} counter\n", metric, help);
}

}  // namespace

double MountStats::hit_rate() const {
  const auto hits = counts.chunks_from_memory + counts.chunks_from_disk;
  const auto all = hits + counts.chunks_from_network;
  return all == 0 ? 1.0 : static_cast<double>(hits) / static_cast<double>(all);
}

std::string to_json(const MountStats& stats) {
  Json object = {{"image", stats.image}};
  for (const auto& figure : kFigures) object[figure.name] = stats.counts.*figure.value;
  object["hit_rate"] = stats.hit_rate();
  object[kSeconds] = seconds_waited(stats.counts);
  return object.dump(2, ' ', false, Json::error_handler_t::replace);
}

MountStats parse_mount_stats(std::string_view json) {
  try {
    const auto object = Json::parse(json);
    MountStats stats{.image = object.at("image").get<std::string>(), .counts = {}};
    for (const auto& figure : kFigures) {
      stats.counts.*figure.value = object.at(figure.name).get<std::uint64_t>();
    }
    stats.counts.time_waited = std::chrono::duration_cast<std::chrono::nanoseconds>(
        Seconds(object.at(kSeconds).get<double>()));
    return stats;
  } catch (const Json::exception& error) {
    throw CorruptError(fmt::format(
        "The mount's statistics are not what this puzzlefs knows ({}). It may be served by "
        "another version.",
        error.what()));
  }
}

std::string to_prometheus(const MountStats& stats) {
  const auto image = escaped(stats.image);
  std::string text;
  std::string_view last;
  for (const auto& figure : kFigures) {
    if (figure.metric != last) text += metric_head(figure.metric, figure.help);
    last = figure.metric;
    text += fmt::format("puzzlefs_{}{{image=\"{}\"{}}} {}\n", figure.metric, image, figure.label,
                        stats.counts.*figure.value);
  }
  text +=
      metric_head("wait_seconds_total", "Seconds in which readers were waiting for the network.");
  text += fmt::format("puzzlefs_wait_seconds_total{{image=\"{}\"}} {}\n", image,
                      seconds_waited(stats.counts));
  return text;
}

}  // namespace puzzlefs::fs
