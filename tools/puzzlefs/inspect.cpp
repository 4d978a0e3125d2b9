// puzzlefs inspect
#include <fmt/format.h>

#include <memory>
#include <nlohmann/json.hpp>

#include "build/summary.h"
#include "puzzlefs/arguments.h"
#include "puzzlefs/image_options.h"
#include "puzzlefs/results.h"
#include "puzzlefs/subcommands.h"

namespace puzzlefs::tools {

namespace {

struct Options {
  std::string source;
  ImageFlags image;
  OutputFormat format = OutputFormat::kText;
};

void print_text(Terminal& terminal, const build::Summary& of) {
  const auto line = [&](std::string_view label, const std::string& value) {
    terminal.out << fmt::format("{:<17} {}\n", label, value);
  };
  line("Name:", of.name);
  line("Digest:", of.manifest_digest.to_string());
  line("Manifest verity:", of.manifest_verity.hex());
  line("Metadata:", fmt::format("{}, verity {}", human_size(of.metadata_bytes),
                                of.metadata_verity ? of.metadata_verity->hex() : "none"));
  line("Inodes:", fmt::format("{}: {}, {}, {}, {} other", of.inodes, counted(of.files, "file"),
                              of.directories == 1 ? "1 directory"
                                                  : fmt::format("{} directories", of.directories),
                              counted(of.symlinks, "symlink"), of.others));
  line("Contents:", human_size(of.bytes));
  if (of.packs > 0) line("Packs:", std::to_string(of.packs));
  line("Chunks:", fmt::format("{}, {} distinct, {} of them used more than once", of.chunks,
                              of.distinct_chunks, of.shared_chunks));
  line("Stored:", human_size(of.stored_bytes));
}

void print_json(Terminal& terminal, const build::Summary& of) {
  using Json = nlohmann::ordered_json;
  const Json verity = of.metadata_verity ? Json(of.metadata_verity->hex()) : Json();
  const Json object = {{"name", of.name},
                       {"digest", of.manifest_digest.to_string()},
                       {"manifest_verity", of.manifest_verity.hex()},
                       {"metadata_verity", verity},
                       {"metadata_bytes", of.metadata_bytes},
                       {"inodes", of.inodes},
                       {"files", of.files},
                       {"directories", of.directories},
                       {"symlinks", of.symlinks},
                       {"others", of.others},
                       {"bytes", of.bytes},
                       {"packs", of.packs},
                       {"chunks", of.chunks},
                       {"distinct_chunks", of.distinct_chunks},
                       {"shared_chunks", of.shared_chunks},
                       {"stored_bytes", of.stored_bytes}};
  write_json(terminal, object);
}

void run(const Options& options, Terminal& terminal) {
  fetch::Runtime runtime;
  const auto image = explaining(options.source, [&] {
    const auto name = parse_source(options.source);
    return fetch::Image::open(runtime, name, options.image.options(name));
  });
  const auto summary = build::summarize(*image);
  if (options.format == OutputFormat::kJson) return print_json(terminal, summary);
  print_text(terminal, summary);
}

}  // namespace

void add_inspect(CLI::App& app, Terminal& terminal) {
  auto options = std::make_shared<Options>();
  Arguments arguments(app, "inspect", "Show what an image is made of");
  arguments.positional("source", options->source, "The image: a layout or a registry's name");
  options->image.add_to(arguments);
  arguments.format(options->format);
  arguments.run([options, &terminal] { run(*options, terminal); });
}

}  // namespace puzzlefs::tools
