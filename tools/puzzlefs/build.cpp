// puzzlefs build
#include <fmt/format.h>

#include <memory>
#include <nlohmann/json.hpp>
#include <optional>

#include "build/build_image.h"
#include "build/source_tree.h"
#include "build/timestamps.h"
#include "format/error.h"
#include "format/image_name.h"
#include "puzzlefs/arguments.h"
#include "puzzlefs/progress.h"
#include "puzzlefs/results.h"
#include "puzzlefs/subcommands.h"

namespace puzzlefs::tools {

namespace {

constexpr unsigned kMaxLevel = 19;

struct Options {
  std::filesystem::path rootfs;
  std::string layout;
  build::BuildOptions build;
  bool packed = false;
  std::optional<unsigned> level;
  std::optional<build::Timestamps> timestamps;
  DigestFile digest_file;
  ProgressMode progress = ProgressMode::kAuto;
  OutputFormat format = OutputFormat::kText;
};

void print_text(Terminal& terminal, const Options& options, const format::LayoutName& name,
                const build::BuildResult& result) {
  const std::string fresh = options.packed ? counted(result.new_blobs, "new pack")
                                           : fmt::format("{} new", result.new_blobs);
  terminal.err << fmt::format("Built {}@{}: {}, {} in {} ({} distinct); {}, {}.\n",
                              name.to_string(), result.manifest.digest.to_string(),
                              counted(result.inodes, "inode"), human_size(result.content_bytes),
                              counted(result.chunks, "chunk"), result.distinct_chunks, fresh,
                              human_size(result.new_bytes));
  if (result.trusted_files > 0) {
    terminal.err << fmt::format("{} as in the base, and not read.\n",
                                counted(result.trusted_files, "file"));
  }
  if (result.replaced_packs > 0) {
    terminal.err << fmt::format(
        "{} of the base had too little in use; what the image needs of that, {}, was stored "
        "again.\n",
        counted(result.replaced_packs, "pack"), human_size(result.moved_bytes));
  }
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
                                         {"trusted_files", result.trusted_files},
                                         {"chunks", result.chunks},
                                         {"distinct_chunks", result.distinct_chunks},
                                         {"new_blobs", result.new_blobs},
                                         {"new_bytes", result.new_bytes}};
  write_json(terminal, object);
}

// Packed images keep times, none later than $SOURCE_DATE_EPOCH if that is set. Chunked ones are by
// default the same to the byte as those of the Rust puzzlefs, which have none.
std::optional<build::TimestampRule> timestamp_rule(const Options& options) {
  using build::Timestamps;
  if (!options.timestamps && !options.packed) return std::nullopt;
  if (options.timestamps && *options.timestamps != Timestamps::kClamp)
    return build::TimestampRule{.kind = *options.timestamps};
  if (const auto epoch = build::source_date_epoch())
    return build::TimestampRule{.kind = Timestamps::kClamp, .epoch = *epoch};
  if (!options.timestamps) return build::TimestampRule{.kind = Timestamps::kKeep};
  throw UsageError(
      "--timestamps clamp takes the latest time that is kept from SOURCE_DATE_EPOCH, which is not "
      "set.");
}

void complete(Options& options) {
  if (options.packed) options.build.layout = build::ImageLayout::kPacked;
  options.build.timestamps = timestamp_rule(options);
  if (options.build.trust_mtime && (!options.packed || options.build.base_tag.empty())) {
    throw UsageError(
        "--trust-mtime compares files with what the base records of them. Add --base-layer TAG and "
        "--layout packed: only packed images record times by themselves.");
  }
  if (!options.level) return;
  if (!options.packed) {
    throw UsageError(
        "--compression-level is for packed images. Add --layout packed, or compress chunks with "
        "--compression, which has one level.");
  }
  options.build.level = static_cast<int>(*options.level);
}

build::BuildResult build_tree(Options& options, const format::LayoutName& name,
                              Terminal& terminal) {
  const auto layout = fetch::Layout::create(name.path);
  Progress progress(terminal, "Building", options.progress);
  options.build.on_progress = [&](std::uint64_t bytes) {
    progress.update({.bytes = bytes, .moved = bytes});
  };
  return build::build_image(options.rootfs, layout, name.tag, options.build);
}

void run(Options options, Terminal& terminal) {
  auto name = format::parse_layout_name(options.layout);
  if (name.tag.empty()) name.tag = "latest";
  build::check_source(options.rootfs, name.path);
  options.digest_file.check();
  complete(options);
  const auto result = build_tree(options, name, terminal);
  options.digest_file.write(result.manifest.digest);
  if (options.format == OutputFormat::kJson) return print_json(terminal, name, result);
  print_text(terminal, options, name, result);
}

}  // namespace

void add_build(CLI::App& app, Terminal& terminal) {
  auto options = std::make_shared<Options>();
  Arguments arguments(app, "build", "Build an image from a directory tree");
  arguments.positional("rootfs", options->rootfs, "The tree");
  arguments.positional("layout", options->layout, "The OCI layout to build into, LAYOUT[:TAG]");
  arguments.option("-b,--base-layer", options->build.base_tag, "TAG",
                   "Build upon this image of the layout: inodes keep their numbers");
  arguments.flag("--trust-mtime", options->build.trust_mtime,
                 "Do not read files whose size and time of modification are as in the base; for "
                 "packed images");
  arguments.choice("--layout", "chunked|packed",
                   {{"chunked", [options] { options->packed = false; }},
                    {"packed", [options] { options->packed = true; }}},
                   "How chunks are stored: each as a blob of its own (chunked, the default), or "
                   "compressed and many in one blob (packed)");
  arguments.flag("-c,--compression", options->build.compress,
                 "Store chunks compressed where that makes them smaller; packed ones always are");
  arguments.number(
      "--compression-level", options->level, 0, kMaxLevel, "NUMBER",
      "How hard to compress packed chunks, 1 to 19, or 0 for not at all; 4 by default");
  arguments.choice(
      "--timestamps", "keep|clamp|zero",
      {{"keep", [options] { options->timestamps = build::Timestamps::kKeep; }},
       {"clamp", [options] { options->timestamps = build::Timestamps::kClamp; }},
       {"zero", [options] { options->timestamps = build::Timestamps::kZero; }}},
      "Times of modification: as they are (keep), none later than SOURCE_DATE_EPOCH (clamp), or "
      "none (zero, the default for chunked)");
  arguments.option("-j,--threads", options->build.threads, "NUMBER",
                   "Threads that hash and compress; as many as processors by default");
  options->digest_file.add_to(arguments);
  arguments.progress(options->progress);
  arguments.format(options->format);
  arguments.run([options, &terminal] { run(*options, terminal); });
}

}  // namespace puzzlefs::tools
