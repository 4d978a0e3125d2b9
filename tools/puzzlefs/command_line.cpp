#include "puzzlefs/command_line.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <iterator>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "format/error.h"
#include "puzzlefs/init_pipe.h"
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

struct Subcommand {
  std::string_view name;
  void (*add)(CLI::App&, Terminal&);
};

// In the order of --help.
constexpr Subcommand kSubcommands[] = {
    {"build", add_build},
    {"push", add_push},
    {"pull", add_pull},
    {"copy", add_copy},
    {"convert", add_convert},
    {"optimize", add_optimize},
    {"enable-fs-verity", add_enable_fs_verity},
    {"mount", add_mount},
    {"umount", add_umount},
    {"stats", add_stats},
    {"trace", add_trace},
    {"attach", add_attach},
    {"extract", add_extract},
    {"inspect", add_inspect},
    {"tags", add_tags},
    {"digest", add_digest},
    {"delete", add_delete},
    {"login", add_login},
    {"logout", add_logout},
    {"cache", add_cache},
};

// Only the one that the first argument names, if it does: all of them take a twentieth of the time
// of a mount.
void add_subcommands(CLI::App& app, Terminal& terminal, std::string_view first_argument) {
  const auto named = std::ranges::find(kSubcommands, first_argument, &Subcommand::name);
  if (named != std::end(kSubcommands)) return named->add(app, terminal);
  for (const auto& subcommand : kSubcommands) subcommand.add(app, terminal);
}

// Those of groups, too.
std::vector<CLI::App*> all_subcommands(CLI::App& app) {
  std::vector<CLI::App*> all;
  for (CLI::App* command : app.get_subcommands({})) {
    all.push_back(command);
    const auto nested = all_subcommands(*command);
    all.insert(all.end(), nested.begin(), nested.end());
  }
  return all;
}

// The FIFO that a mount is told to use, from arguments of which something is wrong; else nothing.
std::string find_init_pipe(std::span<const char* const> arguments) {
  const auto is_option = [](std::string_view argument) { return argument.starts_with('-'); };
  const auto command = std::find_if_not(arguments.begin(), arguments.end(), is_option);
  if (command == arguments.end() || std::string_view(*command) != "mount") return {};
  CLI::App mount;
  mount.set_help_flag();
  mount.allow_extras();
  mount.add_flag("-f,-w,-v");  // may stand before the option in one argument, as in "-fi FIFO"
  std::string pipe;
  mount.add_option("-i,--init-pipe", pipe)->take_last();
  // CLI11 takes them from the back.
  std::vector<std::string> rest(std::make_reverse_iterator(arguments.end()),
                                std::make_reverse_iterator(std::next(command)));
  try {
    mount.parse(std::move(rest));
  } catch (const CLI::ParseError&) {
    return {};  // the option without its value
  }
  return pipe;
}

// Where arguments are refused the mount command never runs, and who waits at its pipe would do so
// for ever.
void tell_init_pipe_of_failure(int argc, const char* const* argv) {
  if (argc < 2) return;
  try {
    const InitPipe pipe(find_init_pipe(std::span(argv, static_cast<std::size_t>(argc)).subspan(1)));
  } catch (const Error&) {
    return;  // no pipe: nobody waits there, and the error to be reported is the other
  }
}

bool has_password(const std::vector<std::string>& unknown) {
  return std::any_of(unknown.begin(), unknown.end(), [](std::string_view argument) {
    return argument.starts_with("-p") || argument.starts_with("--password");
  });
}

// As all other errors are written.
std::string failure_message(const CLI::App* app, const CLI::Error& error) {
  const auto login =
      app->get_subcommands([](const CLI::App* command) { return command->get_name() == "login"; });
  // Without the arguments, since the password may be among them.
  if (!login.empty() && has_password(login.front()->remaining())) {
    return "puzzlefs: A password is no argument, which others could see: login asks for it, or "
           "reads it with --password-stdin.\n";
  }
  return "puzzlefs: " + CLI::FailureMessage::simple(app, error);
}

int parse_and_run(CLI::App& app, int argc, const char* const* argv, Terminal& terminal) {
  try {
    app.parse(argc, argv);
    return 0;
  } catch (const CLI::ParseError& error) {
    if (app.exit(error, terminal.out, terminal.err) == 0) return 0;
    terminal.err << std::flush;  // as the pipe may have to wait for its reader
    tell_init_pipe_of_failure(argc, argv);
    return kWrongUsage;
  }
}

}  // namespace

int run(int argc, const char* const* argv, Terminal& terminal) {
  CLI::App app("Container images as a file system, fetched lazily from any OCI registry.",
               "puzzlefs");
  app.require_subcommand(1);
  app.set_version_flag("--version", "puzzlefs " PUZZLEFS_VERSION);
  app.failure_message(failure_message);

  int verbosity = 0;
  add_verbose_option(app, verbosity);
  add_subcommands(app, terminal, argc > 1 ? argv[1] : "");
  for (CLI::App* command : all_subcommands(app)) add_verbose_option(*command, verbosity);
  // When the options of all levels are known, and before the subcommand's callback, which runs it.
  app.parse_complete_callback([&] {
    try {
      set_log_level(verbosity);
    } catch (const UsageError&) {
      tell_init_pipe_of_failure(argc, argv);
      throw;
    }
  });

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
