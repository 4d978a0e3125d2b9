// puzzlefs build
#include <fmt/format.h>

#include <memory>
#include <nlohmann/json.hpp>

#include "build/build_image.h"
#include "build/source_tree.h"
#include "format/image_name.h"
#include "puzzlefs/arguments.h"
#include "puzzlefs/progress.h"
#include "puzzlefs/subcommands.h"

namespace puzzlefs::tools {

namespace {

struct Options {
  std::filesystem::path rootfs;
  std::string layout;
  build::BuildOptions build;
  OutputFormat format = OutputFormat::kText;
};

void print_text(Terminal& terminal, const format::LayoutName& name,
                const build::BuildResult& result) {
  terminal.err << fmt::format("Built {}@{}: {}, {} in {} ({} distinct); {} new, {}.\n",
                              name.to_string(), result.manifest.digest.to_string(),
                              counted(result.inodes, "inode"), human_size(result.content_bytes),
                              counted(result.chunks, "chunk"), result.distinct_chunks,
                              result.new_blobs, human_size(result.new_bytes));
  // The line that scripts for the Rust program look for.
  terminal.out << "puzzlefs image manifest digest: " << result.manifest_verity.hex() << "\n";
}

void print_json(Terminal& terminal, const format::LayoutName& name,
                const build::BuildResult& result) {
  const nlohmann::ordered_json object = {{"name", name.to_string()},
                                         {"digest", result.manifest.digest.to_string()},
                                         {"manifest_verity", result.manifest_verity.hex()},
                                         {"inodes", result.inodes},
                                         {"bytes", result.content_bytes},
                                         {"chunks", result.chunks},
                                         {"distinct_chunks", result.distinct_chunks},
                                         {"new_blobs", result.new_blobs},
                                         {"new_bytes", result.new_bytes}};
  terminal.out << object.dump(2) << "\n";
}

build::BuildResult build_tree(Options& options, const format::LayoutName& name,
                              Terminal& terminal) {
  const auto layout = fetch::Layout::create(name.path);
  Progress progress(terminal, "Building");
  options.build.on_progress = [&](std::uint64_t bytes) { progress.update(bytes); };
  return build::build_image(options.rootfs, layout, name.tag, options.build);
}

void run(Options options, Terminal& terminal) {
  auto name = format::parse_layout_name(options.layout);
  if (name.tag.empty()) name.tag = "latest";
  build::check_source(options.rootfs, name.path);
  const auto result = build_tree(options, name, terminal);
  if (options.format == OutputFormat::kJson) return print_json(terminal, name, result);
  print_text(terminal, name, result);
}

}  // namespace

void add_build(CLI::App& app, Terminal& terminal) {
  auto options = std::make_shared<Options>();
  Arguments arguments(app, "build", "Build an image from a directory tree");
  arguments.positional("rootfs", options->rootfs, "The tree");
  arguments.positional("layout", options->layout, "The OCI layout to build into, LAYOUT[:TAG]");
  arguments.option("-b,--base-layer", options->build.base_tag, "TAG",
                   "Build upon this image of the layout: inodes keep their numbers");
  arguments.flag("-c,--compression", options->build.compress,
                 "Store chunks compressed where that makes them smaller");
  arguments.option("-j,--threads", options->build.threads, "NUMBER",
                   "Threads that hash and compress; as many as processors by default");
  arguments.format(options->format);
  arguments.run([options, &terminal] { run(*options, terminal); });
}

}  // namespace puzzlefs::tools
