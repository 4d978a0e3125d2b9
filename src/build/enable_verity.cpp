// First all is looked up, then enabled: a file that has fs-verity can no longer be written to, so
// that half an image is the last thing to leave behind.
#include "build/enable_verity.h"

#include <spdlog/fmt/fmt.h>

#include <cerrno>
#include <filesystem>
#include <unordered_set>
#include <vector>

#include "fetch/file_descriptor.h"
#include "fetch/fs_verity.h"
#include "fetch/image.h"
#include "fetch/layout.h"
#include "fetch/mapped_file.h"
#include "format/error.h"
#include "format/verity.h"

namespace puzzlefs::build {
namespace {

namespace fs = std::filesystem;
using format::Descriptor;
using format::Digest;

/// A file, and what the kernel must measure for it.
struct Target {
  Digest blob;
  std::uint64_t size = 0;
  Digest verity;
  fs::path path;
};

void check_manifest(const fetch::Image& image, const fs::path& path, const Digest& wanted) {
  const auto verity = format::verity_digest(image.manifest_document());
  if (verity == wanted) return;
  throw CorruptError(
      fmt::format("{}, the manifest of {}, has the fs-verity digest {}, not {}. Nothing was "
                  "changed. \"puzzlefs "
                  "build\" prints the digest of what it builds, and \"puzzlefs inspect\" shows it.",
                  path.native(), image.name(), verity.hex(), wanted.hex()));
}

Digest metadata_verity(const Descriptor& metadata, const fs::path& path) {
  const auto found = metadata.annotations.find(std::string(format::kVerityAnnotation));
  if (found != metadata.annotations.end()) return Digest::parse_hex(found->second);
  throw CorruptError(
      fmt::format("The manifest has no fs-verity digest of the metadata {}. Nothing "
                  "was changed. Build the image again.",
                  path.native()));
}

Digest chunk_verity(const format::Metadata& metadata, const Descriptor& chunk,
                    const fs::path& path) {
  if (const auto verity = metadata.verity(chunk.digest)) return *verity;
  throw CorruptError(
      fmt::format("The image has no fs-verity digest of its chunk {}. Nothing was "
                  "changed. Build the image again.",
                  path.native()));
}

/// Nobody records the config's, but its bytes are known to be right.
Digest config_verity(fetch::Image& image) {
  const auto& config = image.manifest().config;
  return format::verity_digest(*fetch::wait_for<fetch::BlobData>(
      [&](auto done) { image.blobs().read(config, std::move(done)); }));
}

/// All files of the image, each once, the manifest first.
std::vector<Target> plan(fetch::Image& image, const fetch::Layout& layout,
                         const Digest& manifest_verity) {
  std::vector<Target> targets;
  std::unordered_set<Digest> known;
  const auto add = [&](const Digest& blob, const auto& verity_of) {
    if (!known.insert(blob).second) return;
    const auto path = layout.blob_path(blob);
    if (layout.local_path(blob).empty()) {
      throw NotFoundError(
          fmt::format("The file {} is missing. Nothing was changed. Build or pull the image again.",
                      path.native()));
    }
    targets.push_back({blob, fs::file_size(path), verity_of(path), path});
  };
  const auto& manifest = image.manifest();
  add(image.manifest_digest(), [&](const fs::path&) { return manifest_verity; });
  add(manifest.config.digest, [&](const fs::path&) { return config_verity(image); });
  const auto& metadata = format::metadata_layer(manifest, image.name());
  for (const auto& layer : manifest.layers) {
    add(layer.digest, [&](const fs::path& path) {
      return &layer == &metadata ? metadata_verity(layer, path)
                                 : chunk_verity(image.metadata(), layer, path);
    });
  }
  return targets;
}

[[noreturn]] void throw_mismatch(const Target& target, const Digest& measured) {
  const auto sentence = fmt::format("{} has the fs-verity digest {}, and the image records {}. ",
                                    target.path.native(), measured.hex(), target.verity.hex());
  if (format::sha256(fetch::MappedFile(target.path).bytes()) != target.blob) {
    throw CorruptError(sentence + "It was changed: delete it, and build or pull the image again.");
  }
  throw CorruptError(
      sentence +
      "The file is right and the record wrong, as the Rust puzzlefs 0.2 writes it for "
      "chunks that do not get smaller by compression: build the image again.");
}

void enable(const Target& target) {
  const auto file = fetch::open_regular_file(target.path);
  fetch::enable_fs_verity(file, target.path);
  const auto measured = fetch::measure_fs_verity(file, target.path);
  if (!measured) {
    throw Error(EIO, fmt::format("fs-verity was enabled on {}, but the kernel does not measure it.",
                                 target.path.native()));
  }
  if (*measured != target.verity) throw_mismatch(target, *measured);
}

}  // namespace

EnableVerityResult enable_verity(fetch::Runtime& runtime, const format::LayoutName& name,
                                 const Digest& manifest_verity,
                                 const ProgressCallback& on_progress) {
  const auto layout = fetch::Layout::open(name.path);
  const auto image = fetch::Image::open(runtime, name, {});
  check_manifest(*image, layout.blob_path(image->manifest_digest()), manifest_verity);
  const auto targets = plan(*image, layout, manifest_verity);
  TransferProgress progress;
  progress.blobs_total = targets.size();
  for (const auto& target : targets) progress.bytes_total += target.size;
  for (const auto& target : targets) {
    enable(target);
    ++progress.blobs_done;
    progress.bytes_done += target.size;
    if (on_progress) on_progress(progress);
  }
  return {.blobs = progress.blobs_done, .bytes = progress.bytes_done};
}

}  // namespace puzzlefs::build
