// puzzlefs mount
#include <memory>
#include <optional>
#include <variant>

#include "fetch/paths.h"
#include "format/error.h"
#include "fs/daemon.h"
#include "fs/session.h"
#include "fs/tree.h"
#include "puzzlefs/arguments.h"
#include "puzzlefs/image_options.h"
#include "puzzlefs/init_pipe.h"
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
  std::filesystem::path init_pipe;
  std::filesystem::path upper;
  bool foreground = false;
  bool writable = false;
};

std::optional<fs::OverlayOptions> overlay_options(const Options& options, std::string source) {
  if (!options.writable) return std::nullopt;
  return fs::OverlayOptions{
      .upper = options.upper, .mount_options = options.mount_options, .source = std::move(source)};
}

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
                       .overlay = overlay_options(options, image->name()),
                       .cancel_reads = [&] { image->close(); }});
  session.run(on_ready);
}

// Its files would be read through the mount itself.
void check_not_hidden(const format::ImageName& name, const std::filesystem::path& mountpoint) {
  const auto* layout = std::get_if<format::LayoutName>(&name);
  if (layout == nullptr || !fetch::lies_in(layout->path, mountpoint)) return;
  throw UsageError("The layout " + layout->path.string() + " lies in the mount point " +
                   mountpoint.string() + ", where the mount would hide it. Mount it elsewhere.");
}

void make_absolute(std::filesystem::path& path) {
  if (!path.empty()) path = std::filesystem::absolute(path);
}

void run(Options options) {
  InitPipe init_pipe(options.init_pipe);
  const auto name = parse_source(options.source);
  const auto image_options = options.image.options();
  options.writable = options.writable || !options.upper.empty();
  // A daemon works in "/".
  for (auto* path : {&options.mountpoint, &options.upper, &options.log_file}) make_absolute(*path);
  check_not_hidden(name, options.mountpoint);
  // Before anything is mounted: it may fail.
  const auto use_log_file =
      options.log_file.empty() ? std::function<void()>() : open_log_file(options.log_file);
  if (options.foreground) {
    if (use_log_file) use_log_file();
    return serve(name, image_options, options, [&] { init_pipe.tell_success(); });
  }
  fs::run_in_background([&](const std::function<void()>& ready) {
    init_pipe.close();
    serve(name, image_options, options, [&] {
      use_log_file ? use_log_file() : log_in_background();
      ready();
    });
  });
  init_pipe.tell_success();
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
  arguments.flag("-w,--writable", options->writable,
                 "Take changes, into the directory \"upper\" under the mount point");
  arguments.option("-p,--persist", options->upper, "UPPERDIR",
                   "Take changes, into this directory (implies --writable)");
  arguments.option("-i,--init-pipe", options->init_pipe, "FIFO",
                   "Write \"s\" into this named pipe when mounted, \"f\" on failure");
  arguments.option("--log-file", options->log_file, "FILE",
                   "Log there instead of to syslog or standard error");
  options->image.add_to(arguments);
  options->image.add_outage_to(arguments);
  options->image.add_verity_to(arguments);
  arguments.run([options] { run(*options); });
}

}  // namespace puzzlefs::tools
