// puzzlefs umount
#include <filesystem>
#include <memory>

#include "fs/unmount.h"
#include "puzzlefs/arguments.h"
#include "puzzlefs/subcommands.h"

namespace puzzlefs::tools {

namespace {

struct Options {
  std::filesystem::path mountpoint;
  bool lazy = false;
};

}  // namespace

void add_umount(CLI::App& app, Terminal& /*terminal*/) {
  auto options = std::make_shared<Options>();
  Arguments arguments(app, "umount", "Unmount an image");
  arguments.positional("mountpoint", options->mountpoint, "Where it is mounted");
  arguments.flag("-l,--lazy", options->lazy, "Detach a mount that is in use");
  arguments.run([options] { fs::unmount(options->mountpoint, options->lazy); });
}

}  // namespace puzzlefs::tools
