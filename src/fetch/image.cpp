// Opening an image: from its name to the manifest for this machine, and from there to the metadata.
#include "fetch/image.h"

#include <spdlog/fmt/fmt.h>
#include <spdlog/spdlog.h>

#include <functional>
#include <utility>

#include "fetch/file_descriptor.h"
#include "fetch/layout.h"
#include "format/error.h"
#include "format/verity.h"

namespace puzzlefs::fetch {
namespace {

/// An index may name further indexes; deeper than this nobody has a use for it.
constexpr int kMaxIndexDepth = 2;

/// A manifest or index, and its verified digest.
struct Document {
  Bytes bytes;
  format::Digest digest;
};

using DocumentReader = std::function<Document(const format::Descriptor&)>;

std::string title_of(const format::Digest& digest, const std::string& name) {
  return fmt::format("The manifest {} of {}", digest.to_string(), name);
}

[[noreturn]] void throw_no_platform(const format::Index& index, const std::string& title) {
  std::string offered;
  for (const auto& entry : index.manifests) {
    if (!entry.platform) continue;
    offered += offered.empty() ? "" : ", ";
    offered += entry.platform->os + "/" + entry.platform->architecture;
  }
  const auto host = format::host_platform();
  throw NotFoundError(fmt::format("{} has no image for {}/{}. It has: {}.", title, host.os,
                                  host.architecture, offered.empty() ? "none" : offered));
}

/// Follows indexes to the manifest for this machine.
Document choose_manifest(Document document, const std::string& name, const DocumentReader& read) {
  for (int depth = 0;; ++depth) {
    const auto title = title_of(document.digest, name);
    const auto type = format::media_type_of(document.bytes, title);
    if (type != format::kIndexType && type != format::kDockerManifestListType) return document;
    if (depth == kMaxIndexDepth) {
      throw CorruptError(fmt::format("{} is an index in an index in an index.", title));
    }
    const auto index = format::parse_index(document.bytes, title);
    const auto chosen = format::select_platform(index, format::host_platform());
    if (!chosen) throw_no_platform(index, title);
    document = read(*chosen);
  }
}

Document read_from_layout(BlobStore& blobs, const format::Descriptor& descriptor) {
  if (descriptor.size > format::kMaxManifestSize) {
    throw CorruptError(fmt::format("The manifest {} in {} is too large: {} bytes, at most {}.",
                                   descriptor.digest.to_string(), blobs.source().description(),
                                   descriptor.size, format::kMaxManifestSize));
  }
  return {wait_for<Bytes>([&](auto done) { blobs.read(descriptor, std::move(done)); }),
          descriptor.digest};
}

/// The manifest, from the cache if it is there: then the registry is not asked at all.
Document read_by_digest(Registry& registry, Cache& cache, const format::Digest& digest) {
  if (auto cached = cache.read(digest)) return {std::move(*cached), digest};
  auto fetched = wait_for<FetchedManifest>(
      [&](auto done) { registry.get_manifest(digest.to_string(), std::move(done)); });
  if (format::sha256(fetched.document) != digest) {
    throw CorruptError(fmt::format("{} sent wrong bytes for the manifest {}.",
                                   registry.description(), digest.to_string()));
  }
  cache.write(digest, fetched.document);
  return {std::move(fetched.document), digest};
}

/// What the name stood for last, if the cache still has it.
std::optional<Document> recall(Cache& cache, const std::string& name) {
  const auto digest = cache.recall(name);
  if (!digest) return std::nullopt;
  auto cached = cache.read(*digest);
  if (!cached) return std::nullopt;
  return Document{std::move(*cached), *digest};
}

Document read_by_tag(Registry& registry, Cache& cache) {
  const auto name = registry.name().to_string();
  try {
    auto fetched = wait_for<FetchedManifest>(
        [&](auto done) { registry.get_manifest(registry.name().tag, std::move(done)); });
    const auto digest = format::sha256(fetched.document);
    cache.write(digest, fetched.document);
    return {std::move(fetched.document), digest};
  } catch (const UnavailableError& error) {
    auto remembered = recall(cache, name);
    if (!remembered) throw;
    spdlog::warn("Using {}, which {} stood for last, as the registry cannot be reached: {}",
                 remembered->digest.to_string(), name, error.what());
    return std::move(*remembered);
  }
}

}  // namespace

std::unique_ptr<Image> Image::open(Runtime& runtime, const format::ImageName& name,
                                   const ImageOptions& options) {
  std::unique_ptr<Image> image(new Image());
  if (const auto* layout = std::get_if<format::LayoutName>(&name)) {
    image->open_layout(runtime, *layout, options);
  } else {
    image->open_registry(runtime, std::get<format::RegistryName>(name), options);
  }
  return image;
}

Image::~Image() = default;

void Image::close() {
  source_->close();
  if (client_) client_->close();
}

void Image::open_layout(Runtime& runtime, const format::LayoutName& name,
                        const ImageOptions& options) {
  auto layout = std::make_unique<Layout>(Layout::open(name.path));
  const auto entry = layout->resolve(name.tag);
  source_ = std::move(layout);
  blobs_ = std::make_unique<BlobStore>(runtime, *source_, nullptr);
  const DocumentReader read = [this](const format::Descriptor& descriptor) {
    return read_from_layout(*blobs_, descriptor);
  };
  auto document = choose_manifest(read(entry), name.to_string(), read);
  use_manifest(std::move(document.bytes), document.digest, name.to_string(), options);
  name_ += "@" + manifest_digest_.to_string();
}

void Image::open_registry(Runtime& runtime, const format::RegistryName& name,
                          const ImageOptions& options) {
  if (options.require_fs_verity) {
    throw UsageError(fmt::format(
        "fs-verity cannot be required of {}: only files of a layout can have it. Pull the image "
        "and enable it there, or do not require it.",
        name.to_string()));
  }
  client_ = std::make_unique<HttpClient>(runtime, options.http);
  cache_ = std::make_unique<Cache>(options.cache_directory.empty() ? default_cache_directory()
                                                                   : options.cache_directory);
  auto owned =
      std::make_unique<Registry>(*client_, name, Registry::Access::kPull, options.registry);
  auto& registry = *owned;
  source_ = std::move(owned);
  blobs_ = std::make_unique<BlobStore>(runtime, registry, cache_.get());

  registry.set_deadline(options.open_deadline);
  auto top = name.digest ? read_by_digest(registry, *cache_, *name.digest)
                         : read_by_tag(registry, *cache_);
  const auto top_digest = top.digest;
  auto document =
      choose_manifest(std::move(top), name.to_string(), [&](const format::Descriptor& descriptor) {
        return read_by_digest(registry, *cache_, descriptor.digest);
      });
  use_manifest(std::move(document.bytes), document.digest, name.to_string(), options);
  registry.set_deadline(options.registry.deadline);

  if (name.digest) return;
  name_ += "@" + manifest_digest_.to_string();
  // Only now, when the metadata is cached too: what is remembered must open without a network.
  cache_->remember(name.to_string(), top_digest);
}

void Image::use_manifest(Bytes document, const format::Digest& digest, std::string name,
                         const ImageOptions& options) {
  const auto title = title_of(digest, name);
  name_ = std::move(name);
  manifest_document_ = std::move(document);
  manifest_digest_ = digest;
  if (options.manifest_verity) authenticate(options);
  manifest_ = format::parse_manifest(manifest_document_, title);
  metadata_blob_ = blobs_->map(format::metadata_layer(manifest_, title));
  metadata_ = std::make_unique<format::Metadata>(metadata_blob_->bytes(),
                                                 metadata_blob_->is_mapped()
                                                     ? [this] { metadata_blob_->check_intact(); }
                                                     : std::function<void()>());
  chunks_ = std::make_unique<ChunkStore>(*blobs_, manifest_);
}

void Image::authenticate(const ImageOptions& options) {
  const auto wanted = *options.manifest_verity;
  if (const auto verity = format::verity_digest(manifest_document_); verity != wanted) {
    throw CorruptError(fmt::format(
        "{} has the fs-verity digest {}, not {}: it is another image than the one that was asked "
        "for. \"puzzlefs build\" prints the digest of what it builds.",
        title_of(manifest_digest_, name_), verity.hex(), wanted.hex()));
  }
  fs_verity_ = std::make_unique<FsVerityCheck>(
      options.require_fs_verity, [this, wanted](const format::Digest& blob) {
        return blob == manifest_digest_ ? wanted : recorded_verity(blob);
      });
  if (const auto path = source_->local_path(manifest_digest_); !path.empty()) {
    fs_verity_->covers(open_regular_file(path), path, manifest_digest_);
  }
  blobs_->use_fs_verity(*fs_verity_);
}

std::optional<format::Digest> Image::recorded_verity(const format::Digest& blob) const {
  if (metadata_) return metadata_->verity(blob);
  // The metadata, before any chunk.
  const auto& annotations = format::metadata_layer(manifest_, name_).annotations;
  const auto verity = annotations.find(std::string(format::kVerityAnnotation));
  if (verity == annotations.end()) return std::nullopt;
  return format::Digest::parse_hex(verity->second);
}

}  // namespace puzzlefs::fetch
