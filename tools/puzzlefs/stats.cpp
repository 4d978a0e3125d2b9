// puzzlefs stats
#include <fmt/format.h>

#include <chrono>
#include <filesystem>
#include <memory>

#include "fs/live_mount.h"
#include "fs/mount_stats.h"
#include "puzzlefs/arguments.h"
#include "puzzlefs/subcommands.h"

namespace puzzlefs::tools {

namespace {

struct Options {
  std::filesystem::path mountpoint;
  OutputFormat format = OutputFormat::kText;
};

// What came for what was read, against that.
std::string needed(const fetch::FetchCounts& counts) {
  auto text = human_size(counts.bytes_needed) + " of chunks that were read";
  const auto fetched = counts.bytes_fetched - counts.bytes_fetched_to_open;
  if (counts.bytes_needed > 0) {
    text += fmt::format(", {:.2f} times that was fetched",
                        static_cast<double>(fetched) / static_cast<double>(counts.bytes_needed));
  }
  return text;
}

std::string reads(const fs::MountStats& stats) {
  const auto& counts = stats.counts;
  const auto all = counts.chunks_from_memory + counts.chunks_from_disk + counts.chunks_from_network;
  auto text = counted(all, "chunk");
  if (all > 0) {
    constexpr double kPercent = 100;
    text += fmt::format(": {} from memory, {} from the disk, {} from the network ({:.1f} % hits)",
                        counts.chunks_from_memory, counts.chunks_from_disk,
                        counts.chunks_from_network, kPercent * stats.hit_rate());
  }
  if (counts.chunks_failed > 0) text += fmt::format("; {} could not be had", counts.chunks_failed);
  return text;
}

void print_text(Terminal& terminal, const fs::MountStats& stats) {
  const auto line = [&](std::string_view label, const std::string& value) {
    terminal.out << fmt::format("{:<8} {}\n", label, value);
  };
  const auto& counts = stats.counts;
  line("Image:", harmless(stats.image));
  line("Fetched:",
       fmt::format("{} in {}, {} of it to open the image", human_size(counts.bytes_fetched),
                   counted(counts.requests, "request"), human_size(counts.bytes_fetched_to_open)));
  line("Needed:", needed(counts));
  line("Reads:", reads(stats));
  line("Waited:", fmt::format("{:.3f} s for the network",
                              std::chrono::duration<double>(counts.time_waited).count()));
}

void run(const Options& options, Terminal& terminal) {
  const auto stats = fs::LiveMount::find(options.mountpoint).stats();
  if (options.format == OutputFormat::kJson) {
    terminal.out << fs::to_json(stats) << "\n";
  } else {
    print_text(terminal, stats);
  }
}

}  // namespace

void add_stats(CLI::App& app, Terminal& terminal) {
  auto options = std::make_shared<Options>();
  Arguments arguments(app, "stats", "Show what a mount has fetched, and what for");
  arguments.positional("mountpoint", options->mountpoint, "Where it is mounted");
  arguments.format(options->format);
  arguments.run([options, &terminal] { run(*options, terminal); });
}

}  // namespace puzzlefs::tools
