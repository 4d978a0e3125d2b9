// puzzlefs mount
#include <memory>
#include <optional>
#include <variant>

#include "fetch/paths.h"
#include "fetch/prefetcher.h"
#include "format/error.h"
#include "fs/daemon.h"
#include "fs/link_counts.h"
#include "fs/live_xattrs.h"
#include "fs/mount_stats.h"
#include "fs/session.h"
#include "fs/tree.h"
#include "puzzlefs/ahead_flags.h"
#include "puzzlefs/arguments.h"
#include "puzzlefs/image_options.h"
#include "puzzlefs/init_pipe.h"
#include "puzzlefs/logging.h"
#include "puzzlefs/results.h"
#include "puzzlefs/subcommands.h"

namespace puzzlefs::tools {

namespace {

struct Options {
  std::string source;
  std::filesystem::path mountpoint;
  ImageFlags image;
  AheadFlags ahead;
  std::vector<std::string> mount_options;
  std::filesystem::path log_file;
  std::filesystem::path init_pipe;
  std::filesystem::path upper;
  std::filesystem::path record;
  bool foreground = false;
  bool writable = false;
};

std::optional<fs::OverlayOptions> overlay_options(const Options& options, std::string source) {
  if (!options.writable) return std::nullopt;
  return fs::OverlayOptions{
      .upper = options.upper, .mount_options = options.mount_options, .source = std::move(source)};
}

// What its readers have used so far.
std::string trace_of(fetch::Image& image) {
  return format::to_text({.chunks = image.chunks().used()});
}

// What others can learn of the mount while it is served.
void expose(fetch::Image& image, fetch::Runtime& runtime, fs::SessionOptions& options) {
  const auto stats = [&image] {
    return fs::MountStats{.image = image.name(), .counts = image.stats().snapshot()};
  };
  options.root_xattrs = {{fs::kImageXattr, [&image] { return image.name(); }},
                         {fs::kStatsXattr, [stats] { return fs::to_json(stats()); }}};
  const auto to_prometheus = [stats] {
    return fs::ControlAnswer{std::string(fs::kPrometheusType), fs::to_prometheus(stats())};
  };
  const auto to_json = [stats] {
    return fs::ControlAnswer{"application/json", fs::to_json(stats()) + "\n"};
  };
  const auto trace = [&image] { return fs::ControlAnswer{"text/plain", trace_of(image)}; };
  options.control.emplace(fs::ControlOptions{
      .runtime = runtime,
      .handlers = {{"/metrics", to_prometheus}, {"/stats", to_json}, {"/trace", trace}}});
}

// Serves the mount until it is unmounted.
void serve(const format::ImageName& name, const fetch::ImageOptions& image_options,
           const fetch::PrefetchOptions& ahead, const Options& options,
           const std::function<void()>& on_ready) {
  fetch::Runtime runtime;
  const auto image =
      explaining(options.source, [&] { return fetch::Image::open(runtime, name, image_options); });
  // Not before: opening may wait for a registry, and ends at once if a signal ends the process.
  fs::block_termination_signals();
  fs::Tree tree(image->metadata(), [&image] { return fs::link_counts(*image); });
  fetch::Prefetcher prefetcher(runtime, *image, ahead);
  // Whoever reads a whole file does not say which chunks he needs.
  const bool reads_whole_files = options.record.empty();
  fs::SessionOptions session_options{
      .mount_options = options.mount_options,
      .source = image->name(),
      .overlay = overlay_options(options, image->name()),
      .cancel_reads =
          [&] {
            prefetcher.stop();
            image->close();
          },
      .whole_files = reads_whole_files ? image->whole_files() : nullptr,
      .has_local_chunks = std::holds_alternative<format::LayoutName>(name)};
  expose(*image, runtime, session_options);
  {
    fs::Session session(tree, image->chunks(), options.mountpoint, session_options);
    session.run([&] {
      on_ready();
      prefetcher.start();
    });
  }
  if (!options.record.empty()) write_result_file(options.record, trace_of(*image));
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
  auto image_options = options.image.options(name);
  const auto ahead = options.ahead.options(image_options.offline);
  image_options.head_start = !ahead.trace;
  image_options.lazy_metadata = true;
  options.writable = options.writable || !options.upper.empty();
  // A daemon works in "/".
  for (auto* path : {&options.mountpoint, &options.upper, &options.log_file, &options.record}) {
    make_absolute(*path);
  }
  check_not_hidden(name, options.mountpoint);
  if (!options.record.empty()) check_result_file(options.record);
  // Before anything is mounted: it may fail.
  const auto use_log_file =
      options.log_file.empty() ? std::function<void()>() : open_log_file(options.log_file);
  if (options.foreground) {
    if (use_log_file) use_log_file();
    return serve(name, image_options, ahead, options, [&] { init_pipe.tell_success(); });
  }
  fs::run_in_background([&](const std::function<void()>& ready) {
    init_pipe.close();
    serve(name, image_options, ahead, options, [&] {
      use_log_file ? use_log_file() : log_in_background();
      ready();
    });
  });
  init_pipe.tell_success();
}

}  // namespace

void add_mount(CLI::App& app, Terminal& /*terminal*/) {
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
  arguments.option("--record", options->record, "FILE",
                   "Write a trace into this file at the end: which chunks were used, in order");
  options->ahead.add_to(arguments);
  options->image.add_to(arguments);
  options->image.add_outage_to(arguments);
  options->image.add_verity_to(arguments);
  arguments.run([options] { run(*options); });
}

}  // namespace puzzlefs::tools
