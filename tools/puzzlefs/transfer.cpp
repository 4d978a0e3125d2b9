// puzzlefs push and puzzlefs pull
#include "build/transfer.h"

#include <fmt/format.h>

#include <functional>
#include <memory>
#include <nlohmann/json.hpp>

#include "format/error.h"
#include "puzzlefs/arguments.h"
#include "puzzlefs/image_options.h"
#include "puzzlefs/progress.h"
#include "puzzlefs/subcommands.h"

namespace puzzlefs::tools {

namespace {

struct Options {
  std::string name;
  std::string layout;
  RegistryFlags registry;
  OutputFormat format = OutputFormat::kText;
};

// What `transfer` gives, with a progress line that has gone by then.
build::TransferResult show_progress(
    Terminal& terminal, const std::string& label,
    const std::function<build::TransferResult(const build::ProgressCallback&)>& transfer) {
  Progress progress(terminal, label);
  return transfer([&progress](const build::TransferProgress& at) {
    progress.update(at.bytes_done, at.bytes_total,
                    fmt::format("{} of {} blobs", at.blobs_done, at.blobs_total));
  });
}

void print(Terminal& terminal, OutputFormat format, std::string_view verb, const std::string& name,
           const build::TransferResult& result) {
  if (format == OutputFormat::kText) {
    terminal.out << fmt::format(
        "{} {}@{}: {} ({}), {} already there ({}).\n", verb, name,
        result.manifest.digest.to_string(), counted(result.moved_blobs, "new blob"),
        human_size(result.moved_bytes), result.present_blobs, human_size(result.present_bytes));
    return;
  }
  const nlohmann::ordered_json object = {{"name", name},
                                         {"digest", result.manifest.digest.to_string()},
                                         {"new_blobs", result.moved_blobs},
                                         {"new_bytes", result.moved_bytes},
                                         {"present_blobs", result.present_blobs},
                                         {"present_bytes", result.present_bytes}};
  terminal.out << object.dump(2) << "\n";
}

// The name without what print() adds.
std::string without_digest(format::RegistryName name) {
  name.digest.reset();
  return name.to_string();
}

void push(const Options& options, Terminal& terminal) {
  const auto source = format::parse_layout_name(options.layout);
  const auto target = format::parse_registry_name(options.name);
  const auto layout = fetch::Layout::open(source.path);
  fetch::Runtime runtime;
  fetch::HttpClient client(runtime, options.registry.http());
  fetch::Registry registry(client, target, fetch::Registry::Access::kPush,
                           options.registry.options());
  const auto result = show_progress(terminal, "Pushing", [&](const auto& on_progress) {
    return build::push(runtime, layout, source.tag, registry, on_progress);
  });
  print(terminal, options.format, "Pushed", without_digest(target), result);
}

void pull(const Options& options, Terminal& terminal) {
  const auto source = format::parse_registry_name(options.name);
  auto target = format::parse_layout_name(options.layout);
  if (target.tag.empty()) target.tag = source.tag.empty() ? "latest" : source.tag;
  fetch::Runtime runtime;
  fetch::HttpClient client(runtime, options.registry.http());
  fetch::Registry registry(client, source, fetch::Registry::Access::kPull,
                           options.registry.options());
  const auto layout = fetch::Layout::create(target.path);
  const auto result = show_progress(terminal, "Pulling", [&](const auto& on_progress) {
    return build::pull(runtime, registry, layout, target.tag, on_progress);
  });
  print(terminal, options.format, "Pulled", without_digest(source), result);
}

}  // namespace

void add_push(CLI::App& app, Terminal& terminal) {
  auto options = std::make_shared<Options>();
  Arguments arguments(app, "push", "Upload an image to a registry: only what is new");
  arguments.positional("layout", options->layout, "The image's OCI layout, LAYOUT[:TAG]");
  arguments.positional("name", options->name, "The name to give it, as in registry.io/image:tag");
  options->registry.add_to(arguments);
  arguments.format(options->format);
  arguments.run([options, &terminal] { push(*options, terminal); });
}

void add_pull(CLI::App& app, Terminal& terminal) {
  auto options = std::make_shared<Options>();
  Arguments arguments(app, "pull", "Download an image into a layout: only what is new");
  arguments.positional("name", options->name, "The image, as in registry.io/image:tag");
  arguments.positional("layout", options->layout, "The OCI layout to put it into, LAYOUT[:TAG]");
  options->registry.add_to(arguments);
  arguments.format(options->format);
  arguments.run([options, &terminal] { pull(*options, terminal); });
}

}  // namespace puzzlefs::tools
