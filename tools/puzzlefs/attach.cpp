// puzzlefs attach
#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <chrono>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <unordered_set>

#include "build/registry_store.h"
#include "fetch/attached_trace.h"
#include "fetch/file_descriptor.h"
#include "fetch/hot_chunks.h"
#include "fetch/image.h"
#include "format/error.h"
#include "puzzlefs/arguments.h"
#include "puzzlefs/image_options.h"
#include "puzzlefs/results.h"
#include "puzzlefs/scratch_directory.h"
#include "puzzlefs/subcommands.h"

namespace puzzlefs::tools {

namespace {

using fetch::Registry;

struct Options {
  std::string name;
  std::filesystem::path trace;
  RegistryFlags registry;
  PlatformFlag platform;
  DigestFile digest_file;
  OutputFormat format = OutputFormat::kText;
};

struct Result {
  format::Digest image;
  format::Digest manifest;  // that attaches the trace
  bool is_new = false;
  bool marks_itself = false;  // what a start needs, so that mounts ask for no trace
  std::size_t known = 0;      // chunks that are in the image
  std::size_t unknown = 0;
};

// The text of a trace, and what it says.
struct TraceFile {
  explicit TraceFile(const std::filesystem::path& path)
      : text(fetch::read_file(path, fetch::kMaxAttachedTrace)),
        trace(format::parse_trace(text, path.string())) {
    blob.media_type = format::kTraceType;
    blob.digest = format::sha256(text);
    blob.size = text.size();
  }

  Bytes text;
  format::Trace trace;
  format::Descriptor blob;
};

// What the registry itself, and no mirror, has under the name. Nothing of it goes into the cache: a
// mount on this machine shall find the image as others do.
std::unique_ptr<fetch::Image> open_image(fetch::Runtime& runtime, Registry& registry,
                                         const Options& options,
                                         const std::filesystem::path& directory) {
  fetch::ImageOptions image_options;
  image_options.http = options.registry.http();
  image_options.registry = options.registry.options();
  image_options.cache_directory = directory;
  if (const auto platform = options.platform.platform()) image_options.platform = *platform;
  build::RegistrySource source(runtime, registry);
  auto name = registry.name();
  const auto read = [&](const format::Descriptor& descriptor) {
    return source.document(descriptor);
  };
  name.digest = fetch::choose_manifest(source.top(), source.name(), image_options.platform, read)
                    .descriptor.digest;
  return fetch::Image::open(runtime, name, image_options);
}

void count_chunks(const fetch::Image& image, const format::Trace& trace, Result& result) {
  std::unordered_set<format::Digest> chunks;
  for (const auto& chunk : fetch::chunks_of(image.metadata(), image.manifest(), image.name())) {
    chunks.insert(chunk.digest);
  }
  result.known = static_cast<std::size_t>(
      std::count_if(trace.chunks.begin(), trace.chunks.end(),
                    [&](const format::Digest& chunk) { return chunks.contains(chunk); }));
  result.unknown = trace.chunks.size() - result.known;
}

format::Descriptor describe(const fetch::Image& image) {
  format::Descriptor descriptor;
  descriptor.media_type = format::media_type_of(image.manifest_document(), image.name());
  descriptor.digest = image.manifest_digest();
  descriptor.size = image.manifest_document().size();
  return descriptor;
}

// The manifest that attaches the trace already, if that is the one that counts.
std::optional<format::Digest> find_attached(Registry& registry, const format::Digest& image,
                                            const format::Digest& trace) {
  try {
    const auto found = fetch::wait_for<std::optional<fetch::AttachedTrace>>(
        [&](auto done) { fetch::find_attached_trace(registry, image, std::move(done)); });
    if (found && found->blob.digest == trace) return found->manifest;
  } catch (const CorruptError&) {
    // What is attached is of no use to anybody.
  } catch (const NotFoundError&) {
    // It was deleted, and is still listed.
  }
  return std::nullopt;
}

void put_blob(Registry& registry, const format::Digest& digest, ByteView bytes) {
  if (fetch::wait_for<bool>([&](auto done) { registry.has_blob(digest, std::move(done)); })) return;
  const auto body = std::make_shared<const Bytes>(bytes.begin(), bytes.end());
  fetch::wait_for<fetch::Done>(
      [&](auto done) { registry.put_blob(digest, body, std::move(done)); });
}

format::Digest push(Registry& registry, const format::Descriptor& image, const TraceFile& file) {
  put_blob(registry, file.blob.digest, file.text);
  put_blob(registry, format::empty_config().digest, as_bytes(format::kEmptyConfigBlob));
  auto document = fetch::trace_manifest(image, file.blob, std::chrono::system_clock::now());
  const auto digest = format::sha256(document);
  fetch::wait_for<fetch::Done>(
      [&](auto done) { registry.attach(std::move(document), std::move(done)); });
  return digest;
}

Result attach(const format::RegistryName& name, const TraceFile& file, const Options& options) {
  const ScratchDirectory scratch;
  fetch::Runtime runtime;
  fetch::HttpClient client(runtime, options.registry.http());
  Registry registry(client, name, Registry::Access::kPush, options.registry.options());
  const auto image = open_image(runtime, registry, options, scratch.path());
  Result result{.image = image->manifest_digest(),
                .marks_itself = !fetch::hot_places(image->metadata()).empty()};
  count_chunks(*image, file.trace, result);
  if (result.known == 0) {
    throw Error(EINVAL,
                fmt::format("None of the chunks in {} is in {}: it is the trace of another image. "
                            "\"puzzlefs mount --record FILE\" records one.",
                            options.trace.string(), image->name()));
  }
  const auto attached = find_attached(registry, result.image, file.blob.digest);
  result.is_new = !attached;
  result.manifest = attached ? *attached : push(registry, describe(*image), file);
  return result;
}

void warn_if_in_vain(const Result& result, const std::string& name) {
  if (!result.marks_itself) return;
  spdlog::warn(
      "{} marks itself what a start needs, and mounts go by that. \"puzzlefs optimize\" marks "
      "anew.",
      name);
}

void print(const Options& options, const std::string& name, const Result& result,
           Terminal& terminal) {
  if (options.format == OutputFormat::kJson) {
    return write_json(terminal, {{"name", name},
                                 {"image", result.image.to_string()},
                                 {"digest", result.manifest.to_string()},
                                 {"new", result.is_new},
                                 {"chunks", result.known},
                                 {"unknown_chunks", result.unknown}});
  }
  const auto image = fmt::format("{}@{}", name, result.image.to_string());
  terminal.out << fmt::format("{} {}, as {}: {} of the image",
                              result.is_new ? "Attached the trace to" : "Attached already to",
                              image, result.manifest.to_string(), counted(result.known, "chunk"));
  if (result.unknown > 0) {
    terminal.out << fmt::format(", {} that {} not in it", result.unknown,
                                result.unknown == 1 ? "is" : "are");
  }
  terminal.out << ".\n";
}

void run(const Options& options, Terminal& terminal) {
  auto name = format::parse_registry_name(options.name);
  if (options.trace.empty()) throw UsageError("Say what shall be attached: --trace FILE.");
  options.digest_file.check();
  const TraceFile file(options.trace);
  const auto result = explaining(options.name, [&] { return attach(name, file, options); });
  options.digest_file.write(result.manifest);
  name.digest.reset();
  warn_if_in_vain(result, name.to_string());
  print(options, name.to_string(), result, terminal);
}

}  // namespace

void add_attach(CLI::App& app, Terminal& terminal) {
  auto options = std::make_shared<Options>();
  Arguments arguments(app, "attach",
                      "Attach a trace to an image in a registry, for those who mount it");
  arguments.positional("name", options->name, "The image, as in registry.io/image:tag");
  arguments.option("--trace", options->trace, "FILE",
                   "The chunks that a start uses, in the order of first use");
  options->registry.add_to(arguments);
  options->platform.add_to(arguments);
  options->digest_file.add_to(arguments);
  arguments.format(options->format);
  arguments.run([options, &terminal] { run(*options, terminal); });
}

}  // namespace puzzlefs::tools
