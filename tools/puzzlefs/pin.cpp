// puzzlefs cache pin and puzzlefs cache unpin
#include "puzzlefs/pin.h"

#include <fmt/format.h>

#include <memory>
#include <utility>

#include "build/pin_image.h"
#include "fetch/runtime.h"
#include "format/error.h"
#include "puzzlefs/arguments.h"
#include "puzzlefs/cache_flags.h"
#include "puzzlefs/image_options.h"
#include "puzzlefs/subcommands.h"
#include "puzzlefs/transfer_results.h"

namespace puzzlefs::tools {

namespace {

struct PinOptions {
  std::string name;
  ImageFlags image;
  ProgressMode progress = ProgressMode::kAuto;
};

struct UnpinOptions {
  std::string name;
  CacheFlags cache;
};

void run_pin(const PinOptions& options, Terminal& terminal) {
  auto name = format::parse_registry_name(options.name);
  const auto result = pin(name, options.image.options(name), options.progress, terminal);
  name.digest.reset();
  print_transfer(terminal, OutputFormat::kText, {.done = "Pinned", .name = name.to_string()},
                 result);
}

void run_unpin(const UnpinOptions& options, Terminal& terminal) {
  const auto name = format::parse_registry_name(options.name).to_string();
  const fetch::Cache cache(options.cache.directory());
  if (!cache.pins().remove(name)) {
    throw NotFoundError(
        fmt::format("{} is not pinned in the cache {}. \"puzzlefs cache ls\" shows what is.", name,
                    options.cache.directory().string()));
  }
  terminal.out << fmt::format("Unpinned {}.\n", name);
}

}  // namespace

build::TransferResult pin(const format::RegistryName& name, fetch::ImageOptions options,
                          ProgressMode mode, Terminal& terminal) {
  // What shall be pinned is what the name stands for now.
  options.falls_back = false;
  if (options.registry.deadline) options.open_deadline = *options.registry.deadline;
  fetch::Runtime runtime;
  const auto image = fetch::Image::open(runtime, name, options);
  Progress progress(terminal, "Pinning", mode);
  return build::pin_image(*image, name, show_in(progress));
}

void add_cache_pin(CLI::App& cache, Terminal& terminal) {
  auto options = std::make_shared<PinOptions>();
  Arguments arguments(cache, "pin", "Fetch all of an image, and keep it until it is unpinned");
  arguments.positional("name", options->name, "The image, as in registry.io/image:tag");
  options->image.add_to(arguments);
  arguments.progress(options->progress);
  arguments.run([options, &terminal] { run_pin(*options, terminal); });
}

void add_cache_unpin(CLI::App& cache, Terminal& terminal) {
  auto options = std::make_shared<UnpinOptions>();
  Arguments arguments(cache, "unpin", "Let what was pinned go when room is needed");
  arguments.positional("name", options->name, "The image, as it was pinned");
  options->cache.add_directory_to(arguments);
  arguments.run([options, &terminal] { run_unpin(*options, terminal); });
}

}  // namespace puzzlefs::tools
