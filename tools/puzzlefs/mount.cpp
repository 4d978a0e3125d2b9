// puzzlefs mount
#include <memory>

#include "fs/daemon.h"
#include "fs/session.h"
#include "fs/tree.h"
#include "puzzlefs/arguments.h"
#include "puzzlefs/image_options.h"
#include "puzzlefs/logging.h"
#include "puzzlefs/subcommands.h"

namespace puzzlefs::tools {

namespace {

struct Options {
  std::string source;
  std::filesystem::path mountpoint;
  ImageFlags image;
  std::vector<std::string> mount_options;
  std::filesystem::path log_file;
  bool foreground = false;
};

// Serves the mount until it is unmounted.
void serve(const format::ImageName& name, const fetch::ImageOptions& image_options,
           const Options& options, const std::function<void()>& on_ready) {
  fetch::Runtime runtime;
  const auto image = fetch::Image::open(runtime, name, image_options);
  // Not before: opening may wait for a registry, and ends at once if a signal ends the process.
  fs::block_termination_signals();
  fs::Tree tree(image->metadata());
  fs::Session session(tree, image->chunks(), options.mountpoint,
                      {.mount_options = options.mount_options,
                       .source = image->name(),
                       .cancel_reads = [&] { image->close(); }});
  session.run(on_ready);
}

void run(Options options) {
  const auto name = parse_source(options.source);
  const auto image_options = options.image.options();
  options.mountpoint = std::filesystem::absolute(options.mountpoint);
  if (options.foreground) {
    if (!options.log_file.empty()) log_in_background(options.log_file);
    return serve(name, image_options, options, [] {});
  }
  if (!options.log_file.empty()) options.log_file = std::filesystem::absolute(options.log_file);
  fs::run_in_background([&](const std::function<void()>& ready) {
    serve(name, image_options, options, [&] {
      log_in_background(options.log_file);
      ready();
    });
  });
}

}  // namespace

void add_mount(CLI::App& app) {
  auto options = std::make_shared<Options>();
  Arguments arguments(app, "mount", "Mount an image; only what is read is fetched");
  arguments.positional("source", options->source, "The image: a layout or a registry's name");
  arguments.positional("mountpoint", options->mountpoint, "The directory to mount it on");
  arguments.flag("-f,--foreground", options->foreground, "Stay, and log to standard error");
  arguments.option("-o,--options", options->mount_options, "OPTION[,OPTION...]",
                   "Mount options, as for mount(8)");
  arguments.option("--log-file", options->log_file, "FILE",
                   "Log there instead of to syslog or standard error");
  options->image.add_to(arguments);
  options->image.add_outage_to(arguments);
  arguments.run([options] { run(*options); });
}

}  // namespace puzzlefs::tools
