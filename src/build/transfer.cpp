// Moving images between a local layout and a registry.
#include "build/transfer.h"

#include <cerrno>
#include <optional>
#include <unordered_set>
#include <utility>

#include "build/transfer_queue.h"
#include "fetch/cache.h"
#include "fetch/chunk_store.h"
#include "fetch/then.h"
#include "format/error.h"

namespace puzzlefs::build {
namespace {

using fetch::Completion;
using fetch::Done;
using fetch::FetchedManifest;
using fetch::then;
using fetch::wait_for;
using format::Descriptor;

FetchedManifest get_manifest(fetch::Registry& registry, const std::string& reference) {
  return wait_for<FetchedManifest>(
      [&](Completion<FetchedManifest> done) { registry.get_manifest(reference, std::move(done)); });
}

bool is_manifest(std::string_view media_type) {
  return media_type == format::kManifestType || media_type == format::kDockerManifestType;
}

bool is_index(std::string_view media_type) {
  return media_type == format::kIndexType || media_type == format::kDockerManifestListType;
}

bool holds(const fetch::Layout& layout, const Descriptor& blob) {
  if (!layout.has_blob(blob.digest, blob.size)) return false;
  const auto file = layout.map_blob(blob.digest);
  return file.bytes().size() == blob.size && format::sha256(file.bytes()) == blob.digest;
}

// Throws CorruptError if the file does not hold the blob as described; NotFoundError without one.
void verify_file(const fetch::Layout& layout, const Descriptor& blob) {
  if (holds(layout, blob)) return;
  const auto file = layout.map_blob(blob.digest);
  if (format::sha256(file.bytes()) == blob.digest) {
    throw CorruptError("The image says that its blob " + blob.digest.to_string() + " has " +
                       std::to_string(blob.size) + " bytes; it has " +
                       std::to_string(file.bytes().size()) +
                       ". So builds the Rust puzzlefs with --compression, and no client takes it "
                       "from a registry. Build the image with this program.");
  }
  throw CorruptError("The file " + layout.blob_path(blob.digest).string() +
                     " does not hold the blob that its name says. Delete it and build or pull the "
                     "image again.");
}

// The manifest as it stands in the layout: pushing it must not change its digest.
Bytes read_manifest(const fetch::Layout& layout, const Descriptor& manifest) {
  if (manifest.size > format::kMaxManifestSize) {
    throw Error(EFBIG, "The manifest " + manifest.digest.to_string() + " of " +
                           layout.description() + " has " + std::to_string(manifest.size) +
                           " bytes, and registries accept no more than " +
                           std::to_string(format::kMaxManifestSize) +
                           ": the image has too many chunks to be pushed.");
  }
  verify_file(layout, manifest);
  const auto file = layout.map_blob(manifest.digest);
  return {file.bytes().begin(), file.bytes().end()};
}

// What the registry has under the name that is pushed to; nothing if that tells us nothing.
std::optional<FetchedManifest> present_manifest(fetch::Registry& registry,
                                                const std::string& reference) {
  try {
    return get_manifest(registry, reference);
  } catch (const NotFoundError&) {
    return std::nullopt;
  } catch (const CorruptError&) {
    return std::nullopt;  // whatever it is, it will be replaced
  }
}

std::unordered_set<format::Digest> blobs_of(const std::optional<FetchedManifest>& manifest) {
  std::unordered_set<format::Digest> digests;
  if (!manifest || !is_manifest(manifest->media_type)) return digests;
  try {
    for (const auto& blob :
         distinct_blobs(format::parse_manifest(manifest->document, "present manifest"))) {
      digests.insert(blob.digest);
    }
  } catch (const CorruptError&) {
    digests.clear();
  }
  return digests;
}

// Verifies a blob on a worker and uploads it from its file.
void upload(fetch::Runtime& runtime, const fetch::Layout& layout, fetch::Registry& registry,
            const Descriptor& blob, const Completion<Movement>& done) {
  runtime.post([&layout, &registry, &blob, done] {
    try {
      verify_file(layout, blob);
      registry.put_blob(blob.digest,
                        fetch::FileBody{layout.blob_path(blob.digest).string(), blob.size},
                        then<Done>(done, [done](Done) { done(Movement::kMoved); }));
    } catch (const std::exception&) {
      done(std::current_exception());
    }
  });
}

// The image's manifest, by way of an index where the reference names one.
std::pair<FetchedManifest, Descriptor> resolve_image(fetch::Registry& registry) {
  const std::string name = registry.name().to_string();
  FetchedManifest found = get_manifest(registry, registry.name().reference());
  std::optional<format::Platform> platform;
  if (is_index(found.media_type)) {
    const auto wanted = format::host_platform();
    const auto entry = format::select_platform(format::parse_index(found.document, name), wanted);
    if (!entry) {
      throw NotFoundError(name + " has no image for " + wanted.os + "/" + wanted.architecture +
                          ".");
    }
    found = get_manifest(registry, entry->digest.to_string());
    platform = entry->platform;
  }
  if (!is_manifest(found.media_type)) {
    throw CorruptError("What " + name + " names is not the manifest of an image.");
  }
  Descriptor descriptor;
  descriptor.media_type = found.media_type;
  descriptor.digest = found.digest;
  descriptor.size = found.document.size();
  descriptor.platform = platform;
  return {std::move(found), std::move(descriptor)};
}

// Blobs are held in memory until they are verified: none may be larger than a reader would take.
void check_sizes(const format::Manifest& manifest, const std::string& name) {
  const auto check = [&name](const Descriptor& blob, std::uint64_t most) {
    if (blob.size <= most) return;
    throw CorruptError(name + " says that its blob " + blob.digest.to_string() + " has " +
                       std::to_string(blob.size) + " bytes. More than " + std::to_string(most) +
                       " are not accepted.");
  };
  const Descriptor& metadata = format::metadata_layer(manifest, name);
  for (const auto& layer : manifest.layers) {
    check(layer, &layer == &metadata ? fetch::kMaxBlobSize : fetch::kMaxStoredChunkSize);
  }
  check(manifest.config, format::kMaxManifestSize);
}

// Asks for a blob and stores it; once more past HTTP caches when it is not what it should be.
void download(fetch::Runtime& runtime, fetch::Registry& registry, const fetch::Layout& layout,
              const Descriptor& blob, fetch::Freshness freshness,
              const Completion<Movement>& done) {
  const auto store = [&runtime, &registry, &layout, &blob, freshness, done](const Bytes& data) {
    if (data.size() == blob.size && format::sha256(data) == blob.digest) {
      layout.replace_blob(blob.digest, data);
      return done(Movement::kMoved);
    }
    if (freshness == fetch::Freshness::kBypass) {
      throw CorruptError("What " + registry.description() + " sent for blob " +
                         blob.digest.to_string() + " does not have that digest.");
    }
    download(runtime, registry, layout, blob, fetch::Freshness::kBypass, done);
  };
  registry.read(blob, freshness, then<Bytes>(done, [&runtime, store, done](Bytes data) {
                  auto kept = std::make_shared<const Bytes>(std::move(data));
                  runtime.post([store, kept, done] {
                    try {
                      store(*kept);
                    } catch (const std::exception&) {
                      done(std::current_exception());
                    }
                  });
                }));
}

// Downloads a blob unless the layout has it, whole.
void obtain(fetch::Runtime& runtime, fetch::Registry& registry, const fetch::Layout& layout,
            const Descriptor& blob, const Completion<Movement>& done) {
  runtime.post([&runtime, &registry, &layout, &blob, done] {
    try {
      if (holds(layout, blob)) return done(Movement::kPresent);
      download(runtime, registry, layout, blob, fetch::Freshness::kAny, done);
    } catch (const std::exception&) {
      done(std::current_exception());
    }
  });
}

}  // namespace

TransferResult push(fetch::Runtime& runtime, const fetch::Layout& layout, const std::string& tag,
                    fetch::Registry& registry, const ProgressCallback& on_progress) {
  const Descriptor descriptor = layout.resolve(tag);
  Bytes document = read_manifest(layout, descriptor);
  const std::string name = "manifest " + descriptor.digest.to_string();
  const std::string media_type = format::media_type_of(document, name);
  if (!is_manifest(media_type)) {
    throw Error(EINVAL, "The " + name + " in " + layout.description() +
                            " is not that of one image: only such can be pushed.");
  }
  const auto blobs = distinct_blobs(format::parse_manifest(document, name));
  const std::string reference = registry.name().reference();

  const auto present = present_manifest(registry, reference);
  const auto known = blobs_of(present);
  auto result = move_blobs(
      blobs,
      [&](const Descriptor& blob, const Completion<Movement>& done) {
        if (known.contains(blob.digest)) return done(Movement::kPresent);
        registry.has_blob(blob.digest, then<bool>(done, [&, done](bool has) {
                            if (has) return done(Movement::kPresent);
                            upload(runtime, layout, registry, blob, done);
                          }));
      },
      on_progress);
  result.manifest = descriptor;
  if (present && present->digest == descriptor.digest) return result;
  wait_for<Done>([&](Completion<Done> done) {
    registry.put_manifest(reference, media_type, std::move(document), std::move(done));
  });
  return result;
}

TransferResult pull(fetch::Runtime& runtime, fetch::Registry& registry, const fetch::Layout& layout,
                    const std::string& tag, const ProgressCallback& on_progress) {
  const auto [manifest, descriptor] = resolve_image(registry);
  const std::string name = registry.name().to_string();
  const auto image = format::parse_manifest(manifest.document, name);
  check_sizes(image, name);
  auto result = move_blobs(
      distinct_blobs(image),
      [&](const Descriptor& blob, const Completion<Movement>& done) {
        obtain(runtime, registry, layout, blob, done);
      },
      on_progress);
  // A file that is right is left alone: it may have fs-verity.
  if (!holds(layout, descriptor)) layout.replace_blob(manifest.digest, manifest.document);
  layout.sync();  // before the tag, which must never name what a crash has lost
  layout.set_tag(tag, descriptor);
  result.manifest = descriptor;
  return result;
}

}  // namespace puzzlefs::build
