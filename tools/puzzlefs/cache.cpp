// puzzlefs cache info, puzzlefs cache ls, puzzlefs cache verify and puzzlefs cache prune
#include "fetch/cache.h"

#include <fmt/format.h>

#include <cerrno>
#include <memory>
#include <nlohmann/json.hpp>

#include "fetch/cached_images.h"
#include "format/error.h"
#include "puzzlefs/arguments.h"
#include "puzzlefs/cache_flags.h"
#include "puzzlefs/pin.h"
#include "puzzlefs/results.h"
#include "puzzlefs/subcommands.h"

namespace puzzlefs::tools {

namespace {

using Json = nlohmann::ordered_json;

struct Options {
  CacheFlags cache;
  OutputFormat format = OutputFormat::kText;
  std::string keep = "0";
};

// "3 blobs", and if there are any, " and 2 files".
std::string counted_items(std::uint64_t blobs, std::uint64_t files) {
  auto text = counted(blobs, "blob");
  if (files > 0) text += " and " + counted(files, "file");
  return text;
}

void print_info(const Options& options, Terminal& terminal) {
  fetch::Cache cache(options.cache.directory(), options.cache.limits());
  const auto info = cache.info();
  const auto pins = cache.pins().list().size();
  if (options.format == OutputFormat::kJson) {
    return write_json(terminal, Json{{"directory", info.directory.string()},
                                     {"limit", info.limit},
                                     {"bytes", info.contents.bytes},
                                     {"blobs", info.contents.blobs},
                                     {"files", info.contents.files},
                                     {"quarantined", info.contents.quarantined},
                                     {"pins", pins},
                                     {"free", info.free}});
  }
  const auto line = [&](std::string_view label, const std::string& value) {
    terminal.out << fmt::format("{:<13} {}\n", label, value);
  };
  line("Directory:", harmless(info.directory.string()));
  line("Limit:", human_size(info.limit));
  line("Holds:", fmt::format("{}, {}", human_size(info.contents.bytes),
                             counted_items(info.contents.blobs, info.contents.files)));
  line("Quarantined:", counted(info.contents.quarantined, "file"));
  line("Pins:", fmt::format("{}", pins));
  line("Free:", fmt::format("{} of the file system", human_size(info.free)));
}

Json to_json(const fetch::CachedImage& image) {
  Json object = {{"name", image.name},     {"digest", image.digest.to_string()},
                 {"pinned", image.pinned}, {"blobs", nullptr},
                 {"bytes", nullptr},       {"blobs_total", nullptr},
                 {"bytes_total", nullptr}};
  if (const auto& holding = image.holding) {
    object["blobs"] = holding->blobs;
    object["bytes"] = holding->bytes;
    object["blobs_total"] = holding->blobs_total;
    object["bytes_total"] = holding->bytes_total;
  }
  return object;
}

std::string to_line(const fetch::CachedImage& image) {
  auto line = harmless(image.name);
  // A name that has a digest stands for that.
  if (line.find('@') == std::string::npos) line += "@" + image.digest.to_string();
  if (const auto& holding = image.holding) {
    line +=
        fmt::format(": {} of {}, {} of {}", holding->blobs, counted(holding->blobs_total, "blob"),
                    human_size(holding->bytes), human_size(holding->bytes_total));
  } else {
    line += ": its manifest is not there";
  }
  if (image.pinned) line += ", pinned";
  return line;
}

void print_images(const Options& options, Terminal& terminal) {
  fetch::Cache cache(options.cache.directory());
  const auto images = fetch::list_images(cache);
  if (options.format == OutputFormat::kText) {
    for (const auto& image : images) terminal.out << to_line(image) << "\n";
    return;
  }
  Json list = Json::array();
  for (const auto& image : images) list.push_back(to_json(image));
  write_json(terminal, Json{{"images", std::move(list)}});
}

struct Verified {
  std::uint64_t blobs = 0;
  std::uint64_t files = 0;
  std::uint64_t bad_blobs = 0;
  std::uint64_t bad_files = 0;
  std::uint64_t bytes = 0;

  std::uint64_t bad() const { return bad_blobs + bad_files; }
  std::uint64_t good() const { return blobs + files - bad(); }
};

Verified scrub(fetch::Cache& cache, Terminal& terminal) {
  const auto total = cache.info().contents.bytes;
  Progress progress(terminal, "Verifying");
  Verified result;
  cache.scrub([&](fetch::CacheItem item, std::uint64_t size, bool good) {
    const bool is_blob = item == fetch::CacheItem::kBlob;
    ++(is_blob ? result.blobs : result.files);
    if (!good) ++(is_blob ? result.bad_blobs : result.bad_files);
    result.bytes += size;
    progress.update({.bytes = result.bytes, .total = total, .moved = result.bytes});
  });
  return result;
}

void verify(const Options& options, Terminal& terminal) {
  fetch::Cache cache(options.cache.directory());
  const auto found = scrub(cache, terminal);
  if (options.format == OutputFormat::kJson) {
    write_json(terminal,
               Json{{"good", found.good()}, {"bad", found.bad()}, {"bytes", found.bytes}});
  } else {
    terminal.out << fmt::format("Verified {} ({}): {} good, {} bad.\n",
                                counted_items(found.blobs, found.files), human_size(found.bytes),
                                found.good(), found.bad());
  }
  if (found.bad() == 0) return;
  const auto bad = found.bad_blobs == 0 ? counted(found.bad_files, "file")
                                        : counted_items(found.bad_blobs, found.bad_files);
  throw Error(EIO,
              fmt::format("{} in the cache {} had changed; what is wrong was moved to its "
                          "directory quarantine, and is fetched or made again when it is read.",
                          bad, options.cache.directory().string()));
}

void prune(const Options& options, Terminal& terminal) {
  const auto keep = parse_size(options.keep);
  if (!keep) {
    throw UsageError("--keep is \"" + options.keep +
                     "\"; it can be a number of bytes, also with K, M, G or T behind it, as in "
                     "--keep=10G.");
  }
  fetch::Cache cache(options.cache.directory());
  const auto left = cache.shrink(*keep);
  if (options.format == OutputFormat::kJson) {
    return write_json(terminal, Json{{"removed_blobs", left.removed},
                                     {"removed_files", left.removed_files},
                                     {"freed_bytes", left.freed},
                                     {"blobs", left.blobs},
                                     {"files", left.files},
                                     {"bytes", left.bytes}});
  }
  terminal.out << fmt::format(
      "Removed {}: {} freed; {} left ({}).\n", counted_items(left.removed, left.removed_files),
      human_size(left.freed), counted_items(left.blobs, left.files), human_size(left.bytes));
}

void add_info(CLI::App& group, Terminal& terminal) {
  auto options = std::make_shared<Options>();
  Arguments arguments(group, "info", "Show how much the cache holds, and how much it may");
  options->cache.add_directory_to(arguments);
  options->cache.add_size_to(arguments);
  arguments.format(options->format);
  arguments.run([options, &terminal] { print_info(*options, terminal); });
}

void add_ls(CLI::App& group, Terminal& terminal) {
  auto options = std::make_shared<Options>();
  Arguments arguments(group, "ls", "List the images that the cache knows, and what it has of them");
  options->cache.add_directory_to(arguments);
  arguments.format(options->format);
  arguments.run([options, &terminal] { print_images(*options, terminal); });
}

void add_verify(CLI::App& group, Terminal& terminal) {
  auto options = std::make_shared<Options>();
  Arguments arguments(group, "verify",
                      "Read all blobs and files, and set aside those that have changed");
  options->cache.add_directory_to(arguments);
  arguments.format(options->format);
  arguments.run([options, &terminal] { verify(*options, terminal); });
}

void add_prune(CLI::App& group, Terminal& terminal) {
  auto options = std::make_shared<Options>();
  Arguments arguments(group, "prune", "Delete what is not pinned, the least recently used first");
  options->cache.add_directory_to(arguments);
  arguments.option("--keep", options->keep, "SIZE", "Until so much is left, as in 10G (0)");
  arguments.format(options->format);
  arguments.run([options, &terminal] { prune(*options, terminal); });
}

}  // namespace

void add_cache(CLI::App& app, Terminal& terminal) {
  auto& group = add_group(app, "cache", "Look after what was fetched from registries");
  add_info(group, terminal);
  add_ls(group, terminal);
  add_verify(group, terminal);
  add_prune(group, terminal);
  add_cache_pin(group, terminal);
  add_cache_unpin(group, terminal);
}

}  // namespace puzzlefs::tools
