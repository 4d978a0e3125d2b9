// puzzlefs tags, puzzlefs digest and puzzlefs delete: what a repository holds.
#include <fmt/format.h>

#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <variant>
#include <vector>

#include "build/layout_store.h"
#include "build/registry_store.h"
#include "fetch/layout.h"
#include "fetch/registry.h"
#include "puzzlefs/arguments.h"
#include "puzzlefs/image_options.h"
#include "puzzlefs/results.h"
#include "puzzlefs/subcommands.h"

namespace puzzlefs::tools {

namespace {

using Json = nlohmann::ordered_json;

struct Options {
  std::string name;
  RegistryFlags registry;
  PlatformFlag platform;
  OutputFormat format = OutputFormat::kText;
};

/// A registry for the length of a command.
class Connection {
 public:
  Connection(const format::RegistryName& name, fetch::Registry::Access access,
             const RegistryFlags& flags)
      : client_(runtime_, flags.http()), registry_(client_, name, access, flags.options()) {}

  fetch::Runtime& runtime() { return runtime_; }
  fetch::Registry& registry() { return registry_; }

  fetch::FetchedManifest manifest() {
    return fetch::wait_for<fetch::FetchedManifest>(
        [&](auto done) { registry_.get_manifest(registry_.name().reference(), std::move(done)); });
  }

 private:
  fetch::Runtime runtime_;
  fetch::HttpClient client_;
  fetch::Registry registry_;
};

std::vector<std::string> tags_of(const format::ImageName& name, const RegistryFlags& flags) {
  if (const auto* layout = std::get_if<format::LayoutName>(&name)) {
    auto tags = fetch::Layout::open(layout->path).tags();
    std::erase(tags, std::string());
    return tags;
  }
  Connection connection(std::get<format::RegistryName>(name), fetch::Registry::Access::kPull,
                        flags);
  return fetch::wait_for<std::vector<std::string>>(
      [&](auto done) { connection.registry().list_tags(std::move(done)); });
}

format::Digest digest_of(const format::ImageName& name, const RegistryFlags& flags) {
  if (const auto* layout = std::get_if<format::LayoutName>(&name)) {
    return fetch::Layout::open(layout->path).resolve(layout->tag).digest;
  }
  return Connection(std::get<format::RegistryName>(name), fetch::Registry::Access::kPull, flags)
      .manifest()
      .digest;
}

format::Digest choose(build::ImageSource& source, const format::Platform& platform) {
  const auto read = [&source](const format::Descriptor& descriptor) {
    return source.document(descriptor);
  };
  return fetch::choose_manifest(source.top(), source.name(), platform, read).descriptor.digest;
}

// Of the image for one platform, if what the name stands for is an index.
format::Digest digest_of(const format::ImageName& name, const format::Platform& platform,
                         const RegistryFlags& flags) {
  if (const auto* layout = std::get_if<format::LayoutName>(&name)) {
    fetch::Runtime runtime;
    build::LayoutSource source(runtime, *layout);
    return choose(source, platform);
  }
  Connection connection(std::get<format::RegistryName>(name), fetch::Registry::Access::kPull,
                        flags);
  build::RegistrySource source(connection.runtime(), connection.registry());
  return choose(source, platform);
}

void print_tags(const Options& options, Terminal& terminal) {
  const auto tags = explaining(
      options.name, [&] { return tags_of(parse_source(options.name), options.registry); });
  if (options.format == OutputFormat::kJson) {
    // ASCII only: JSON leaves some control characters as they are.
    terminal.out << Json{{"tags", tags}}.dump(2, ' ', true) << "\n";
    return;
  }
  for (const auto& tag : tags) terminal.out << harmless(tag) << "\n";
}

void print_digest(const Options& options, Terminal& terminal) {
  const auto name = parse_source(options.name);
  const auto platform = options.platform.platform();
  const auto found = explaining(options.name, [&] {
    return platform ? digest_of(name, *platform, options.registry)
                    : digest_of(name, options.registry);
  });
  const auto digest = found.to_string();
  if (options.format == OutputFormat::kJson) {
    write_json(terminal, Json{{"digest", digest}});
    return;
  }
  terminal.out << digest << "\n";
}

void delete_image(const Options& options, Terminal& terminal) {
  const auto name = format::parse_registry_name(options.name);
  Connection connection(name, fetch::Registry::Access::kDelete, options.registry);
  const auto digest = name.digest ? *name.digest : connection.manifest().digest;
  fetch::wait_for<fetch::Done>(
      [&](auto done) { connection.registry().delete_manifest(digest, std::move(done)); });
  terminal.out << fmt::format("Deleted {}@{}, with all its tags.\n",
                              connection.registry().description(), digest.to_string());
}

}  // namespace

void add_tags(CLI::App& app, Terminal& terminal) {
  auto options = std::make_shared<Options>();
  Arguments arguments(app, "tags", "List the tags of a repository or a layout");
  arguments.positional("name", options->name, "The repository or layout; a tag does not matter");
  options->registry.add_to(arguments);
  arguments.format(options->format);
  arguments.run([options, &terminal] { print_tags(*options, terminal); });
}

void add_digest(CLI::App& app, Terminal& terminal) {
  auto options = std::make_shared<Options>();
  Arguments arguments(app, "digest", "Print the digest of an image's manifest or index");
  arguments.positional("source", options->name, "The image: a layout or a registry's name");
  options->registry.add_to(arguments);
  options->platform.add_to(arguments);
  arguments.format(options->format);
  arguments.run([options, &terminal] { print_digest(*options, terminal); });
}

void add_delete(CLI::App& app, Terminal& terminal) {
  auto options = std::make_shared<Options>();
  Arguments arguments(app, "delete", "Delete an image from a registry, with all its tags");
  arguments.positional("name", options->name, "The image, as in registry.io/image:tag");
  options->registry.add_to(arguments);
  arguments.run([options, &terminal] { delete_image(*options, terminal); });
}

}  // namespace puzzlefs::tools
