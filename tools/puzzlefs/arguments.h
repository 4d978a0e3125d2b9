// The arguments of one subcommand: a narrow front of CLI11, which only arguments.cpp and
// command_line.cpp compile, since it takes a compiler longer than all the rest of a subcommand.
#pragma once

#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "puzzlefs/progress.h"

namespace CLI {
class App;
}

namespace puzzlefs::tools {

/// How results are printed.
enum class OutputFormat { kText, kJson };

/// The subcommand `name` of `app`, which has subcommands of its own and does nothing without one.
CLI::App& add_group(CLI::App& app, const std::string& name, const std::string& help);

/// Declares what a subcommand takes. Each method stores into the variable it is given, which keeps
/// its value if the argument is absent and must outlive the parsing.
class Arguments {
 public:
  /// The subcommand `name` of `app`.
  Arguments(CLI::App& app, const std::string& name, const std::string& help);

  /// Required, in the order of declaration.
  void positional(const std::string& name, std::string& value, const std::string& help);
  void positional(const std::string& name, std::filesystem::path& value, const std::string& help);

  /// May be absent, behind the required ones.
  void positional(const std::string& name, std::optional<std::string>& value,
                  const std::string& help);

  /// `names` as in "-f,--foreground"; `type` is what --help shows for the value.
  void flag(const std::string& names, bool& value, const std::string& help);
  /// A value may follow, behind '=' only; without one it is "true".
  void flag(const std::string& names, std::string& value, const std::string& help);
  void option(const std::string& names, std::string& value, const std::string& type,
              const std::string& help);
  void option(const std::string& names, std::filesystem::path& value, const std::string& type,
              const std::string& help);
  /// Tells an empty value from none.
  void option(const std::string& names, std::optional<std::string>& value, const std::string& type,
              const std::string& help);
  /// At least 1.
  void option(const std::string& names, unsigned& value, const std::string& type,
              const std::string& help);
  /// May be repeated, and holds several values separated by commas.
  void option(const std::string& names, std::vector<std::string>& values, const std::string& type,
              const std::string& help);
  /// From `least` to `most`.
  void number(const std::string& names, std::optional<unsigned>& value, unsigned least,
              unsigned most, const std::string& type, const std::string& help);
  /// One of a few words, and what is done if it is given.
  void choice(const std::string& names, const std::string& type,
              const std::vector<std::pair<std::string, std::function<void()>>>& choices,
              const std::string& help);
  /// --format.
  void format(OutputFormat& format);
  /// --progress.
  void progress(ProgressMode& mode);

  /// What the subcommand does once its arguments are known.
  void run(std::function<void()> action);

 private:
  CLI::App& command_;
};

}  // namespace puzzlefs::tools
