#include "puzzlefs/command_line.h"

#include <CLI/CLI.hpp>

#include "format/error.h"
#include "puzzlefs/logging.h"
#include "puzzlefs/subcommands.h"

namespace puzzlefs::tools {

namespace {

constexpr int kFailure = 1;
constexpr int kWrongUsage = 2;

// -v is understood before and behind the subcommand.
void add_verbose_option(CLI::App& command, int& verbosity) {
  command.add_flag("-v,--verbose", verbosity, "Say what is done; -vv and -vvv say more");
}

int parse_and_run(CLI::App& app, int argc, const char* const* argv, Terminal& terminal) {
  try {
    app.parse(argc, argv);
    return 0;
  } catch (const CLI::ParseError& error) {
    const int code = app.exit(error, terminal.out, terminal.err);
    return code == 0 ? 0 : kWrongUsage;
  }
}

}  // namespace

int run(int argc, const char* const* argv, Terminal& terminal) {
  CLI::App app("Container images as a file system, fetched lazily from any OCI registry.",
               "puzzlefs");
  app.require_subcommand(1);
  app.set_version_flag("--version", "puzzlefs " PUZZLEFS_VERSION);
  app.failure_message(CLI::FailureMessage::simple);

  int verbosity = 0;
  add_verbose_option(app, verbosity);
  add_build(app, terminal);
  add_push(app, terminal);
  add_pull(app, terminal);
  add_enable_fs_verity(app, terminal);
  add_mount(app);
  add_umount(app);
  add_extract(app, terminal);
  add_inspect(app, terminal);
  add_tags(app, terminal);
  add_digest(app, terminal);
  add_delete(app, terminal);
  for (CLI::App* command : app.get_subcommands({})) {
    add_verbose_option(*command, verbosity);
    // Options come before the subcommand's own callback, which runs it.
    command->parse_complete_callback([&verbosity] { set_log_level(verbosity); });
  }

  try {
    log_to_stderr();
    return parse_and_run(app, argc, argv, terminal);
  } catch (const UsageError& error) {
    terminal.err << "puzzlefs: " << harmless(error.what()) << "\n";
    return kWrongUsage;
  } catch (const std::exception& error) {
    terminal.err << "puzzlefs: " << harmless(error.what()) << "\n";
    return kFailure;
  }
}

}  // namespace puzzlefs::tools
