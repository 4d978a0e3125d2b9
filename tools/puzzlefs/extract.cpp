// puzzlefs extract
#include "build/extract.h"

#include <fmt/format.h>

#include <memory>

#include "puzzlefs/arguments.h"
#include "puzzlefs/image_options.h"
#include "puzzlefs/progress.h"
#include "puzzlefs/subcommands.h"

namespace puzzlefs::tools {

namespace {

struct Options {
  std::string source;
  std::filesystem::path target;
  ImageFlags image;
  ProgressMode progress = ProgressMode::kAuto;
};

void print_left_out(Terminal& terminal, const build::LeftOut& left_out) {
  const auto say = [&terminal](const build::Omission& omission, const std::string& what) {
    if (omission.count == 0) return;
    terminal.err << fmt::format("Left out, as it needs root: {} ({}{}).\n",
                                counted(omission.count, what), harmless(omission.first),
                                omission.count > 1 ? ", …" : "");
  };
  say(left_out.owners, "owner");
  say(left_out.attributes, "extended attribute");
  say(left_out.devices, "device");
}

build::ExtractResult extract(fetch::Image& image, const Options& options, Terminal& terminal) {
  Progress progress(terminal, "Extracting", options.progress);
  return build::extract_image(image, options.target, [&](std::uint64_t bytes) {
    progress.update({.bytes = bytes, .moved = bytes});
  });
}

void run(const Options& options, Terminal& terminal) {
  fetch::Runtime runtime;
  const auto image = explaining(options.source, [&] {
    const auto name = parse_source(options.source);
    return fetch::Image::open(runtime, name, options.image.options(name));
  });
  const auto result = extract(*image, options, terminal);
  terminal.err << fmt::format("Extracted {} into {}: {}, {}.\n", image->name(),
                              options.target.string(), counted(result.inodes, "inode"),
                              human_size(result.bytes));
  print_left_out(terminal, result.left_out);
}

}  // namespace

void add_extract(CLI::App& app, Terminal& terminal) {
  auto options = std::make_shared<Options>();
  Arguments arguments(app, "extract", "Write an image's tree into a directory");
  arguments.positional("source", options->source, "The image: a layout or a registry's name");
  arguments.positional("directory", options->target, "Where to; made if missing, else empty");
  options->image.add_to(arguments);
  options->image.add_outage_to(arguments);
  arguments.progress(options->progress);
  arguments.run([options, &terminal] { run(*options, terminal); });
}

}  // namespace puzzlefs::tools
