// puzzlefs pull and puzzlefs copy
#include <memory>
#include <optional>
#include <utility>
#include <variant>

#include "format/error.h"
#include "format/image_name.h"
#include "puzzlefs/arguments.h"
#include "puzzlefs/image_options.h"
#include "puzzlefs/pin.h"
#include "puzzlefs/subcommands.h"
#include "puzzlefs/transfer_results.h"
#include "puzzlefs/transfer_run.h"

namespace puzzlefs::tools {

namespace {

using format::ImageName;
using format::RegistryName;

constexpr TransferKind kPull{"pull", "Pulling", "Pulled", true, true};
constexpr TransferKind kCopy{"copy", "Copying", "Copied"};

struct PullOptions : TransferFlags {
  std::optional<std::string> layout;
  bool pin = false;
  CacheFlags cache;
};

void pull_into_cache(const PullOptions& options, Terminal& terminal) {
  if (options.layout || options.dry_run || options.platform == "all") {
    throw UsageError(
        "--pin keeps the image for one platform in the cache: it goes without a layout, --dry-run "
        "and --platform all.");
  }
  auto name = format::parse_registry_name(options.source);
  options.digest_file.check();
  fetch::ImageOptions image;
  image.registry = options.registry.options();
  image.http = options.registry.http();
  if (!options.platform.empty()) image.platform = format::parse_platform(options.platform);
  image.cache_directory = options.cache.directory();
  image.cache_limits = options.cache.limits();
  const auto result = pin(name, image, options.progress, terminal);
  options.digest_file.write(result.manifest.digest);
  name.digest.reset();
  print_transfer(terminal, options.format, {.done = "Pinned", .name = name.to_string()}, result);
}

void pull(const PullOptions& options, Terminal& terminal) {
  if (options.pin) return pull_into_cache(options, terminal);
  if (!options.layout) {
    throw UsageError("Say which layout to pull into, or --pin to keep the image in the cache.");
  }
  if (options.cache.given()) {
    throw UsageError("--cache-dir and --cache-size go with --pin.");
  }
  run_transfer(kPull, format::parse_registry_name(options.source),
               format::parse_layout_name(*options.layout), options, terminal);
}

// Where copy shall write to. Nobody pushes to "library" of Docker Hub, where such a name leads:
// what is meant is a layout that is still to be made.
ImageName parse_copy_target(const std::string& text) {
  auto name = format::parse_image_name(text);
  const auto implied = format::implied_name(text);
  if (std::holds_alternative<RegistryName>(name) && implied &&
      text.find('/') == std::string::npos) {
    throw UsageError("\"" + text + "\" means " + *implied + "; a new layout is written ./" + text +
                     ".");
  }
  return name;
}

}  // namespace

void add_pull(CLI::App& app, Terminal& terminal) {
  auto options = std::make_shared<PullOptions>();
  Arguments arguments(app, "pull", "Download an image into a layout: only what is new");
  arguments.positional("name", options->source, "The image, as in registry.io/image:tag");
  arguments.positional("layout", options->layout, "The OCI layout to put it into, LAYOUT[:TAG]");
  arguments.flag("--pin", options->pin,
                 "Put it into the cache in place of a layout, as \"cache pin\" does");
  options->cache.add_directory_to(arguments);
  options->cache.add_size_to(arguments);
  options->add_to(
      arguments,
      "Of an index of images, take the one for this platform (this machine's by default), "
      "or all");
  arguments.run([options, &terminal] { pull(*options, terminal); });
}

void add_copy(CLI::App& app, Terminal& terminal) {
  auto options = std::make_shared<TransferFlags>();
  Arguments arguments(app, "copy",
                      "Copy an image between registries and layouts: only what is new");
  arguments.positional("source", options->source, "The image: a layout or a registry's name");
  arguments.positional("target", options->target,
                       "Where to: a name, or a layout; a new one starts with \"oci:\", / or .");
  options->add_to(arguments, kAllPlatforms);
  arguments.run([options, &terminal] {
    const auto target = parse_copy_target(options->target);
    explaining(options->source, [&] {
      run_transfer(kCopy, format::parse_image_name(options->source), target, *options, terminal);
    });
  });
}

}  // namespace puzzlefs::tools
