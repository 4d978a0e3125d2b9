// puzzlefs trace
#include "format/trace.h"

#include <filesystem>
#include <memory>

#include "fs/live_mount.h"
#include "puzzlefs/arguments.h"
#include "puzzlefs/subcommands.h"

namespace puzzlefs::tools {

namespace {

// What is no trace is not printed, whoever answers.
void run(const std::filesystem::path& mountpoint, Terminal& terminal) {
  const auto text = fs::LiveMount::find(mountpoint).ask("/trace");
  const auto name = "The answer of the mount at " + mountpoint.string();
  terminal.out << format::to_text(format::parse_trace(as_bytes(text), name));
}

}  // namespace

void add_trace(CLI::App& app, Terminal& terminal) {
  auto mountpoint = std::make_shared<std::filesystem::path>();
  Arguments arguments(app, "trace", "Show which chunks were read from a mount so far, in order");
  arguments.positional("mountpoint", *mountpoint, "Where it is mounted");
  arguments.run([mountpoint, &terminal] { run(*mountpoint, terminal); });
}

}  // namespace puzzlefs::tools
