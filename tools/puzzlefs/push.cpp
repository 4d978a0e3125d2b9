// puzzlefs push: packs what is not packed on the way, and shares packs that the registry has.
#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "build/convert_image.h"
#include "fetch/blob_store.h"
#include "fetch/choose_manifest.h"
#include "fetch/image.h"
#include "fetch/layout.h"
#include "fetch/outcome.h"
#include "format/error.h"
#include "format/image_name.h"
#include "puzzlefs/arguments.h"
#include "puzzlefs/progress.h"
#include "puzzlefs/results.h"
#include "puzzlefs/scratch_directory.h"
#include "puzzlefs/subcommands.h"
#include "puzzlefs/transfer_run.h"

namespace puzzlefs::tools {

namespace {

using format::LayoutName;
using format::RegistryName;

constexpr TransferKind kPush{"push", "Pushing", "Pushed"};

// What was asked for with --layout.
enum class PushLayout { kPackedIfPossible, kPacked, kKeep };

struct PushOptions : TransferFlags {
  PushLayout layout = PushLayout::kPackedIfPossible;
  std::string base;

  // The one image of an index that is pushed, if one was chosen.
  std::optional<format::Platform> chosen() const {
    if (platform.empty() || platform == "all") return std::nullopt;
    return format::parse_platform(platform);
  }
};

struct Push {
  const PushOptions& options;
  const LayoutName source;
  const RegistryName target;
  const std::optional<RegistryName> base;

  // Whether what cannot be packed is an error.
  bool must_pack() const { return options.layout == PushLayout::kPacked || base; }
  format::Platform platform() const { return options.chosen().value_or(format::host_platform()); }
};

std::optional<RegistryName> parse_base(const PushOptions& options, const RegistryName& target) {
  if (options.base.empty()) return std::nullopt;
  if (options.layout == PushLayout::kKeep)
    throw UsageError("--base is for packs to be shared; with --layout keep nothing is packed.");
  auto base = format::parse_registry_name(options.base);
  if (base.host == target.host) return base;
  throw UsageError(fmt::format(
      "--base {} is in another registry than {}. Packs are shared within one registry: copy the "
      "base there, or push without it.",
      base.to_string(), target.to_string()));
}

// What is pushed as it stands in the layout: the image, or an index of several.
fetch::Document find_document(fetch::Runtime& runtime, const Push& push) {
  auto layout = fetch::Layout::open(push.source.path);
  fetch::BlobStore blobs(runtime, layout, nullptr);
  const auto read = [&blobs](const format::Descriptor& descriptor) {
    const auto data = fetch::wait_for<fetch::BlobData>(
        [&](fetch::Completion<fetch::BlobData> done) { blobs.read(descriptor, std::move(done)); });
    return fetch::make_document(*data, descriptor.digest);
  };
  auto document = read(layout.resolve(push.source.tag));
  const auto platform = push.options.chosen();
  if (!platform) return document;
  return fetch::choose_manifest(std::move(document), to_string(push.source), *platform, read);
}

bool has_packs(const format::Manifest& manifest) {
  return std::any_of(manifest.layers.begin(), manifest.layers.end(),
                     [](const auto& layer) { return layer.media_type == format::kPackType; });
}

bool is_index_to_push(const Push& push, const fetch::Document& document, Terminal& terminal) {
  const std::string name = to_string(push.source);
  if (!format::is_index(format::media_type_of(document.bytes, name))) return false;
  if (push.must_pack()) {
    throw UsageError(name +
                     " is an index of images. Packing goes with one: choose it with --platform.");
  }
  terminal.err << name
               << " is an index of images, which is pushed as it is; of one that --platform "
                  "chooses the chunks are packed.\n";
  return true;
}

// Says why not, if that may surprise.
bool is_to_be_packed(const Push& push, fetch::Runtime& runtime, Terminal& terminal) {
  if (push.options.layout == PushLayout::kKeep) return false;
  const auto document = find_document(runtime, push);
  if (is_index_to_push(push, document, terminal)) return false;
  const std::string name = to_string(push.source);
  const auto manifest = format::parse_manifest(document.bytes, name);
  if (push.must_pack()) format::metadata_layer(manifest, name);  // throws if it is not of ours
  if (!format::has_metadata(manifest) || has_packs(manifest)) return false;
  // No other image can have the digest that was asked for.
  return push.must_pack() || push.target.digest != document.descriptor.digest;
}

std::unique_ptr<build::RegistryBase> find_base(const Push& push, TransferEnds& ends,
                                               Terminal& terminal) {
  const std::string base = push.base->to_string();
  const char* what = "is no packed image whose packs can be shared";
  try {
    if (auto found = ends.find_base(push.platform())) return found;
  } catch (const NotFoundError&) {
    what = "is not there";
  } catch (const CorruptError&) {
  }
  terminal.err << fmt::format("Warning: {} {}; nothing is shared with it.\n", base, what);
  return nullptr;
}

// Into a layout that is pushed in place of the image. It lacks the packs that the registry has.
build::ConvertResult pack(fetch::Image& image, build::RegistryBase* base, const LayoutName& packed,
                          const PushOptions& options, Terminal& terminal) {
  Progress progress(terminal, "Packing", options.progress);
  build::ConvertOptions convert;
  if (base != nullptr) convert.base.emplace(base->pack_base());
  convert.on_progress = [&progress](std::uint64_t bytes) {
    progress.update({.bytes = bytes, .moved = bytes});
  };
  return build::convert_image(image, fetch::Layout::open(packed.path), packed.tag, convert);
}

void push_packed(const Push& push, fetch::Runtime& runtime, Terminal& terminal) {
  const ScratchDirectory scratch;
  const LayoutName packed{scratch.path(), "packed"};
  fetch::Layout::create(packed.path);
  TransferEnds ends(packed, push.target, push.options.registry, push.base);
  std::unique_ptr<build::RegistryBase> base;
  if (push.base) base = find_base(push, ends, terminal);
  if (base) {
    ends.lend_blobs_of(*base);
  } else {
    base = ends.find_present(push.platform());
  }

  const auto image = fetch::Image::open(runtime, push.source, {.platform = push.platform()});
  const auto result = pack(*image, base.get(), packed, push.options, terminal);
  if (result.replaced_packs > 0) {
    terminal.err << fmt::format(
        "{} of the present image had too little in use; what the image needs of that, {}, is "
        "stored again.\n",
        counted(result.replaced_packs, "pack"), human_size(result.moved_bytes));
  }
  finish_transfer(ends, kPush, without_digest(push.target), push.options, terminal);
}

void push_as_it_is(const Push& push, Terminal& terminal) {
  TransferEnds ends(push.source, push.target, push.options.registry, push.base);
  if (push.base) find_base(push, ends, terminal);
  finish_transfer(ends, kPush, without_digest(push.target), push.options, terminal);
}

void run(const PushOptions& options, Terminal& terminal) {
  auto target = format::parse_registry_name(options.target);
  auto base = parse_base(options, target);
  const Push push{options, format::parse_layout_name(options.source), std::move(target),
                  std::move(base)};
  if (push.must_pack() && options.platform == "all")
    throw UsageError("Packing goes with one image: choose it with --platform.");
  options.digest_file.check();
  fetch::Runtime runtime;
  if (is_to_be_packed(push, runtime, terminal)) {
    push_packed(push, runtime, terminal);
  } else {
    push_as_it_is(push, terminal);
  }
}

}  // namespace

void add_push(CLI::App& app, Terminal& terminal) {
  auto options = std::make_shared<PushOptions>();
  Arguments arguments(app, "push", "Upload an image to a registry: only what is new");
  arguments.positional("layout", options->source, "The image's OCI layout, LAYOUT[:TAG]");
  arguments.positional("name", options->target, "The name to give it, as in registry.io/image:tag");
  arguments.choice("--layout", "packed|keep",
                   {{"packed", [options] { options->layout = PushLayout::kPacked; }},
                    {"keep", [options] { options->layout = PushLayout::kKeep; }}},
                   "Pack a chunked image on the way, and share the packs of what the name stands "
                   "for now (packed), which is the default for one PuzzleFS image; or push it as "
                   "it is (keep)");
  arguments.option(
      "--base", options->base, "NAME",
      "Share the packs of this image of the same registry, such as the version before");
  options->add_to(arguments, kAllPlatforms);
  arguments.run([options, &terminal] { run(*options, terminal); });
}

}  // namespace puzzlefs::tools
