// puzzlefs enable-fs-verity
#include <fmt/format.h>

#include <memory>

#include "build/enable_verity.h"
#include "format/image_name.h"
#include "puzzlefs/arguments.h"
#include "puzzlefs/image_options.h"
#include "puzzlefs/progress.h"
#include "puzzlefs/subcommands.h"

namespace puzzlefs::tools {

namespace {

struct Options {
  std::string layout;
  std::string digest;
};

build::EnableVerityResult enable(const format::LayoutName& name, const format::Digest& digest,
                                 Terminal& terminal) {
  fetch::Runtime runtime;
  Progress progress(terminal, "Enabling fs-verity");
  return build::enable_verity(runtime, name, digest, [&](const build::TransferProgress& at) {
    progress.update({.bytes = at.bytes_done,
                     .total = at.bytes_total,
                     .moved = at.bytes_done,
                     .note = fmt::format("{} of {} blobs", at.blobs_done, at.blobs_total)});
  });
}

void run(const Options& options, Terminal& terminal) {
  const auto name = format::parse_layout_name(options.layout);
  const auto result = enable(name, parse_verity_digest(options.digest), terminal);
  terminal.err << fmt::format("The kernel verifies {} now: {}, {}.\n", name.to_string(),
                              counted(result.blobs, "blob"), human_size(result.bytes));
}

}  // namespace

void add_enable_fs_verity(CLI::App& app, Terminal& terminal) {
  auto options = std::make_shared<Options>();
  Arguments arguments(app, "enable-fs-verity", "Let the kernel verify the files of an image");
  arguments.positional("layout", options->layout, "The image's OCI layout, LAYOUT[:TAG]");
  arguments.positional("digest", options->digest,
                       "The fs-verity digest of its manifest, as build prints it");
  arguments.run([options, &terminal] { run(*options, terminal); });
}

}  // namespace puzzlefs::tools
