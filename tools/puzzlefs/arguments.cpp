#include "puzzlefs/arguments.h"

#include <CLI/CLI.hpp>

namespace puzzlefs::tools {

CLI::App& add_group(CLI::App& app, const std::string& name, const std::string& help) {
  auto& group = *app.add_subcommand(name, help);
  group.require_subcommand(1);
  return group;
}

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

void Arguments::positional(const std::string& name, std::optional<std::string>& value,
                           const std::string& help) {
  command_
      .add_option_function<std::string>(
          name, [&value](const std::string& text) { value = text; }, help)
      ->type_name("");
}

void Arguments::flag(const std::string& names, bool& value, const std::string& help) {
  command_.add_flag(names, value, help);
}

void Arguments::flag(const std::string& names, std::string& value, const std::string& help) {
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

void Arguments::number(const std::string& names, std::optional<unsigned>& value, unsigned least,
                       unsigned most, const std::string& type, const std::string& help) {
  command_
      .add_option_function<unsigned>(
          names, [&value](unsigned number) { value = number; }, help)
      ->type_name(type)
      ->check(CLI::Range(least, most).description(""));
}

void Arguments::choice(const std::string& names, const std::string& type,
                       const std::vector<std::pair<std::string, std::function<void()>>>& choices,
                       const std::string& help) {
  std::vector<std::string> words;
  for (const auto& [word, action] : choices) words.push_back(word);
  command_
      .add_option_function<std::string>(
          names,
          [choices](const std::string& chosen) {
            for (const auto& [word, action] : choices)
              if (word == chosen) action();
          },
          help)
      ->type_name(type)
      ->check(CLI::IsMember(words).description(""));
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

void Arguments::progress(ProgressMode& mode) {
  command_
      .add_option_function<std::string>(
          "--progress",
          [&mode](const std::string& name) {
            mode = name == "plain"  ? ProgressMode::kPlain
                   : name == "none" ? ProgressMode::kNone
                                    : ProgressMode::kAuto;
          },
          "Show progress on a terminal (auto), as plain lines, or not at all (none)")
      ->type_name("auto|plain|none")
      ->check(CLI::IsMember({"auto", "plain", "none"}).description(""));
}

void Arguments::run(std::function<void()> action) {
  command_.callback(std::move(action));
}

}  // namespace puzzlefs::tools
