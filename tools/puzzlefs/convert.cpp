// puzzlefs convert and puzzlefs optimize
#include <fmt/format.h>

#include <memory>
#include <nlohmann/json.hpp>
#include <optional>

#include "build/convert_image.h"
#include "fetch/mapped_file.h"
#include "format/error.h"
#include "format/image_name.h"
#include "format/trace.h"
#include "puzzlefs/arguments.h"
#include "puzzlefs/image_options.h"
#include "puzzlefs/progress.h"
#include "puzzlefs/results.h"
#include "puzzlefs/subcommands.h"

namespace puzzlefs::tools {

namespace {

constexpr unsigned kMaxLevel = 19;

struct Options {
  std::string source;
  std::string target;
  ImageFlags image;
  std::optional<build::ImageLayout> layout;
  build::ConvertOptions convert;
  std::optional<unsigned> level;
  std::filesystem::path trace;  // of optimize
  DigestFile digest_file;
  ProgressMode progress = ProgressMode::kAuto;
  OutputFormat format = OutputFormat::kText;
};

void print_text(Terminal& terminal, const Options& options, const format::LayoutName& name,
                const build::ConvertResult& result) {
  const bool packed = options.convert.layout == build::ImageLayout::kPacked;
  terminal.err << fmt::format(
      "{} {}@{}: {}, {} ({}); {}, {}.\n", options.trace.empty() ? "Converted" : "Optimized",
      name.to_string(), result.manifest.digest.to_string(), counted(result.inodes, "inode"),
      counted(result.chunks, "chunk"), human_size(result.chunk_bytes),
      counted(result.new_blobs, packed ? "new pack" : "new blob"), human_size(result.new_bytes));
  if (!options.trace.empty()) {
    terminal.err << fmt::format("{} of the trace {} first; {} {} not in the image.\n",
                                counted(result.hot_chunks, "chunk"),
                                result.hot_chunks == 1 ? "comes" : "come", result.unknown_chunks,
                                result.unknown_chunks == 1 ? "is" : "are");
  }
  // As build prints it.
  terminal.out << "puzzlefs image manifest digest: " << result.manifest_verity.hex() << "\n";
}

void print_json(Terminal& terminal, const format::LayoutName& name,
                const build::ConvertResult& result) {
  const nlohmann::ordered_json object = {{"name", name.to_string()},
                                         {"digest", result.manifest.digest.to_string()},
                                         {"manifest_verity", result.manifest_verity.hex()},
                                         {"inodes", result.inodes},
                                         {"chunks", result.chunks},
                                         {"chunk_bytes", result.chunk_bytes},
                                         {"hot_chunks", result.hot_chunks},
                                         {"unknown_chunks", result.unknown_chunks},
                                         {"new_blobs", result.new_blobs},
                                         {"new_bytes", result.new_bytes}};
  write_json(terminal, object);
}

void complete(Options& options) {
  if (!options.layout)
    throw UsageError("Say which layout the image shall have: --layout packed or --layout chunked.");
  build::ConvertOptions& convert = options.convert;
  convert.layout = *options.layout;
  const bool packed = convert.layout == build::ImageLayout::kPacked;
  if (packed && convert.compress)
    throw UsageError("Packed images are always compressed: --compression is for chunked ones.");
  if (!packed && options.level)
    throw UsageError(
        "--compression-level is for packed images; chunked ones are compressed with --compression, "
        "which has one level.");
  if (!options.level) return;
  convert.level = static_cast<int>(*options.level);
  convert.hot_level = convert.level;
}

build::ConvertResult convert(Options& options, const format::LayoutName& name, Terminal& terminal) {
  fetch::Runtime runtime;
  const auto image = explaining(options.source, [&] {
    const auto source = parse_source(options.source);
    return fetch::Image::open(runtime, source, options.image.options(source));
  });
  const auto layout = fetch::Layout::create(name.path);
  Progress progress(terminal, options.trace.empty() ? "Converting" : "Optimizing",
                    options.progress);
  options.convert.on_progress = [&progress](std::uint64_t bytes) {
    progress.update({.bytes = bytes, .moved = bytes});
  };
  return build::convert_image(*image, layout, name.tag, options.convert);
}

void run(Options options, Terminal& terminal) {
  complete(options);
  auto name = format::parse_layout_name(options.target);
  if (name.tag.empty()) name.tag = "latest";
  options.digest_file.check();
  if (!options.trace.empty()) {
    const fetch::MappedFile file(options.trace);
    options.convert.hot = format::parse_trace(file.bytes(), options.trace.string()).chunks;
    file.check_intact();
  }
  const auto result = convert(options, name, terminal);
  options.digest_file.write(result.manifest.digest);
  if (options.format == OutputFormat::kJson) return print_json(terminal, name, result);
  print_text(terminal, options, name, result);
}

void add_positionals(Arguments& arguments, Options& options) {
  arguments.positional("source", options.source, "The image: a layout or a registry's name");
  arguments.positional("layout", options.target, "The OCI layout to write into, LAYOUT[:TAG]");
}

void add_common(Arguments& arguments, Options& options, const std::string& default_level) {
  arguments.number("--compression-level", options.level, 0, kMaxLevel, "NUMBER",
                   "How hard to compress packed chunks, 1 to 19, or 0 for not at all; by default " +
                       default_level);
  arguments.option("-j,--threads", options.convert.threads, "NUMBER",
                   "Threads that hash and compress; as many as processors by default");
  options.image.add_to(arguments);
  options.digest_file.add_to(arguments);
  arguments.progress(options.progress);
  arguments.format(options.format);
}

}  // namespace

void add_convert(CLI::App& app, Terminal& terminal) {
  auto options = std::make_shared<Options>();
  Arguments arguments(app, "convert",
                      "Write an image anew in another layout; the tree is the same");
  add_positionals(arguments, *options);
  arguments.choice("--layout", "chunked|packed",
                   {{"chunked", [options] { options->layout = build::ImageLayout::kChunked; }},
                    {"packed", [options] { options->layout = build::ImageLayout::kPacked; }}},
                   "How chunks are to be stored: each as a blob of its own (chunked), or "
                   "compressed and many in one blob (packed)");
  arguments.flag("-c,--compression", options->convert.compress,
                 "Store chunks compressed where that makes them smaller; packed ones always are");
  add_common(arguments, *options, "4");
  arguments.run([options, &terminal] { run(*options, terminal); });
}

void add_optimize(CLI::App& app, Terminal& terminal) {
  auto options = std::make_shared<Options>();
  Arguments arguments(app, "optimize",
                      "Write an image anew, packed, with what a trace has first; the tree is the "
                      "same");
  add_positionals(arguments, *options);
  arguments.option("--trace", options->trace, "FILE",
                   "The chunks that were used, in the order of first use");
  add_common(arguments, *options, "19 for what the trace has, and 4 for the rest");
  arguments.run([options, &terminal] {
    if (options->trace.empty()) throw UsageError("Say what shall come first: --trace FILE.");
    options->layout = build::ImageLayout::kPacked;
    run(*options, terminal);
  });
}

}  // namespace puzzlefs::tools
