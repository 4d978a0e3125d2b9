#include "puzzlefs/arguments.h"

#include <CLI/CLI.hpp>

namespace puzzlefs::tools {

Arguments::Arguments(CLI::App& app, const std::string& name, const std::string& help)
    : command_(*app.add_subcommand(name, help)) {}

void Arguments::positional(const std::string& name, std::string& value, const std::string& help) {
  command_.add_option(name, value, help)->type_name("")->required();
}

void Arguments::positional(const std::string& name, std::filesystem::path& value,
                           const std::string& help) {
  command_
      .add_option_function<std::string>(
          name, [&value](const std::string& text) { value = text; }, help)
      ->type_name("")
      ->required();
}

void Arguments::flag(const std::string& names, bool& value, const std::string& help) {
  command_.add_flag(names, value, help);
}

void Arguments::option(const std::string& names, std::string& value, const std::string& type,
                       const std::string& help) {
  command_.add_option(names, value, help)->type_name(type);
}

void Arguments::option(const std::string& names, std::filesystem::path& value,
                       const std::string& type, const std::string& help) {
  command_
      .add_option_function<std::string>(
          names, [&value](const std::string& text) { value = text; }, help)
      ->type_name(type);
}

void Arguments::option(const std::string& names, std::optional<std::string>& value,
                       const std::string& type, const std::string& help) {
  command_
      .add_option_function<std::string>(
          names, [&value](const std::string& text) { value = text; }, help)
      ->type_name(type);
}

void Arguments::option(const std::string& names, unsigned& value, const std::string& type,
                       const std::string& help) {
  command_.add_option(names, value, help)
      ->type_name(type)
      ->check(CLI::PositiveNumber.description(""));
}

void Arguments::option(const std::string& names, std::vector<std::string>& values,
                       const std::string& type, const std::string& help) {
  command_.add_option(names, values, help)
      ->type_name(type)
      ->delimiter(',')
      ->allow_extra_args(false);
}

void Arguments::format(OutputFormat& format) {
  command_
      .add_option_function<std::string>(
          "--format",
          [&format](const std::string& name) {
            format = name == "json" ? OutputFormat::kJson : OutputFormat::kText;
          },
          "Print the result as text or json")
      ->type_name("text|json")
      ->check(CLI::IsMember({"text", "json"}).description(""));
}

void Arguments::run(std::function<void()> action) {
  command_.callback(std::move(action));
}

}  // namespace puzzlefs::tools
