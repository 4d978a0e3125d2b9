// puzzlefs umount
#include <filesystem>
#include <memory>

#include "fs/unmount.h"
#include "puzzlefs/command_line.h"

namespace puzzlefs::tools {

namespace {

struct Options {
  std::filesystem::path mountpoint;
  bool lazy = false;
};

}  // namespace

void add_umount(CLI::App& app) {
  auto options = std::make_shared<Options>();
  auto& command = *app.add_subcommand("umount", "Unmount an image");
  command.add_option("mountpoint", options->mountpoint, "Where it is mounted")
      ->type_name("")
      ->required();
  command.add_flag("-l,--lazy", options->lazy, "Detach a mount that is in use");
  command.callback([options] { fs::unmount(options->mountpoint, options->lazy); });
}

}  // namespace puzzlefs::tools
