// Opening an image: from its name to the manifest for this machine, and from there to the metadata.
#include "fetch/image.h"

#include <spdlog/fmt/fmt.h>
#include <spdlog/spdlog.h>

#include <utility>

#include "fetch/file_descriptor.h"
#include "fetch/layout.h"
#include "fetch/offline_source.h"
#include "fetch/stored_metadata.h"
#include "format/error.h"
#include "format/verity.h"

namespace puzzlefs::fetch {
namespace {

constexpr std::chrono::seconds kPatienceForExtras{5};

Document read_from_layout(BlobStore& blobs, const format::Descriptor& descriptor) {
  if (descriptor.size > format::kMaxManifestSize) {
    throw CorruptError(fmt::format("The manifest {} in {} is too large: {} bytes, at most {}.",
                                   descriptor.digest.to_string(), blobs.source().description(),
                                   descriptor.size, format::kMaxManifestSize));
  }
  const auto data = wait_for<BlobData>([&](auto done) { blobs.read(descriptor, std::move(done)); });
  auto document = make_document(*data, descriptor.digest);
  document.descriptor.media_type = descriptor.media_type;
  return document;
}

/// The manifest, from the cache if it is there: then the registry is not asked at all.
Document read_by_digest(Registry& registry, Cache& cache, const format::Digest& digest) {
  if (auto cached = cache.read(digest)) return make_document(std::move(*cached), digest);
  auto fetched = wait_for<FetchedManifest>(
      [&](auto done) { registry.get_manifest(digest.to_string(), std::move(done)); });
  if (format::sha256(fetched.document) != digest) {
    throw CorruptError(fmt::format("{} sent wrong bytes for the manifest {}.",
                                   registry.description(), digest.to_string()));
  }
  cache.write(digest, fetched.document);
  return make_document(std::move(fetched.document), digest);
}

/// What the name stood for last, if the cache still has it. Pins outlive the index.
std::optional<Document> recall(Cache& cache, const std::string& name) {
  auto digest = cache.recall(name);
  if (!digest) {
    const auto pin = cache.pins().find(name);
    if (!pin) return std::nullopt;
    digest = pin->named;
  }
  auto cached = cache.read(*digest);
  if (!cached) return std::nullopt;
  return make_document(std::move(*cached), *digest);
}

Document read_by_tag(Registry& registry, Cache& cache, bool falls_back) {
  const auto name = registry.name().to_string();
  try {
    auto fetched = wait_for<FetchedManifest>(
        [&](auto done) { registry.get_manifest(registry.name().tag, std::move(done)); });
    const auto digest = format::sha256(fetched.document);
    cache.write(digest, fetched.document);
    return make_document(std::move(fetched.document), digest);
  } catch (const UnavailableError& error) {
    auto remembered = falls_back ? recall(cache, name) : std::nullopt;
    if (!remembered) throw;
    spdlog::warn("Using {}, which {} stood for last, as the registry cannot be reached: {}",
                 remembered->descriptor.digest.to_string(), name, error.what());
    return std::move(*remembered);
  }
}

/// A pin counts more than what the name stood for last, since all of it is there.
format::Digest recall_offline(Cache& cache, const format::RegistryName& name) {
  const auto pin = cache.pins().find(name.to_string());
  const auto digest = pin ? std::optional(pin->named) : cache.recall(name.to_string());
  if (!digest) throw not_cached(name, "what " + name.to_string() + " stands for");
  spdlog::info("Using {}, which {} stood for when {}, as --offline says.", digest->to_string(),
               name.to_string(), pin ? "it was pinned" : "the registry was asked last");
  return *digest;
}

std::filesystem::path cache_directory(const ImageOptions& options) {
  return options.cache_directory.empty() ? default_cache_directory() : options.cache_directory;
}

void check_fs_verity_is_possible(const format::RegistryName& name, const ImageOptions& options) {
  if (!options.require_fs_verity) return;
  throw UsageError(fmt::format(
      "fs-verity cannot be required of {}: only files of a layout can have it. Pull the image and "
      "enable it there, or do not require it.",
      name.to_string()));
}

}  // namespace

std::unique_ptr<Image> Image::open(Runtime& runtime, const format::ImageName& name,
                                   const ImageOptions& options) {
  std::unique_ptr<Image> image(new Image());
  if (const auto* layout = std::get_if<format::LayoutName>(&name)) {
    image->open_layout(runtime, *layout, options);
  } else if (options.offline) {
    image->open_offline(runtime, std::get<format::RegistryName>(name), options);
  } else {
    image->open_registry(runtime, std::get<format::RegistryName>(name), options);
  }
  image->stats_.mark_opened();
  return image;
}

// What goes on in the background must not wait for a registry.
Image::~Image() {
  if (blobs_) close();
}

void Image::close() {
  blobs_->close();
  if (layout_blobs_) layout_blobs_->close();
  if (extras_) extras_->close();
  if (packs_) packs_->close();
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
  named_digest_ = entry.digest;
  use_manifest(runtime, choose_manifest(read(entry), name.to_string(), options.platform, read),
               name.to_string(), options);
  name_ += "@" + manifest_digest_.to_string();
}

void Image::open_registry(Runtime& runtime, const format::RegistryName& name,
                          const ImageOptions& options) {
  check_fs_verity_is_possible(name, options);
  auto http = options.http;
  http.stats = &stats_;
  client_ = std::make_unique<HttpClient>(runtime, std::move(http));
  open_cache(options);
  auto owned =
      std::make_unique<Registry>(*client_, name, Registry::Access::kPull, options.registry);
  auto& registry = *owned;
  source_ = std::move(owned);
  extras_ = registry.trying_once(kPatienceForExtras);
  blobs_ = std::make_unique<BlobStore>(runtime, registry, cache_.get());

  registry.set_deadline(options.open_deadline);
  auto top = name.digest ? read_by_digest(registry, *cache_, *name.digest)
                         : read_by_tag(registry, *cache_, options.falls_back);
  named_digest_ = top.descriptor.digest;
  use_manifest(runtime,
               choose_manifest(std::move(top), name.to_string(), options.platform,
                               [&](const format::Descriptor& descriptor) {
                                 return read_by_digest(registry, *cache_, descriptor.digest);
                               }),
               name.to_string(), options);
  registry.set_deadline(options.registry.deadline);

  if (name.digest) return;
  name_ += "@" + manifest_digest_.to_string();
  // Only now, when the metadata is cached too: what is remembered must open without a network.
  cache_->remember(name.to_string(), named_digest_);
}

void Image::open_offline(Runtime& runtime, const format::RegistryName& name,
                         const ImageOptions& options) {
  check_fs_verity_is_possible(name, options);
  open_cache(options);
  source_ = std::make_unique<OfflineSource>(name);
  blobs_ = std::make_unique<BlobStore>(runtime, *source_, cache_.get());
  const auto read = [&](const format::Digest& digest) {
    auto cached = cache_->read(digest);
    if (!cached) throw not_cached(name, "the manifest " + digest.to_string());
    return make_document(std::move(*cached), digest);
  };
  named_digest_ = name.digest ? *name.digest : recall_offline(*cache_, name);
  use_manifest(runtime,
               choose_manifest(
                   read(named_digest_), name.to_string(), options.platform,
                   [&](const format::Descriptor& descriptor) { return read(descriptor.digest); }),
               name.to_string(), options);
  if (!name.digest) name_ += "@" + manifest_digest_.to_string();
}

void Image::open_cache(const ImageOptions& options) {
  cache_ = std::make_unique<Cache>(cache_directory(options), options.cache_limits);
}

void Image::use_manifest(Runtime& runtime, Document document, std::string name,
                         const ImageOptions& options) {
  const auto title = title_of(document.descriptor.digest, name);
  name_ = std::move(name);
  manifest_document_ = std::move(document.bytes);
  manifest_digest_ = document.descriptor.digest;
  if (options.manifest_verity) authenticate(options);
  manifest_ = format::parse_manifest(manifest_document_, title);
  const auto& layer = format::metadata_layer(manifest_, title);
  const auto plain = plain_metadata(layer);
  was_here_ = !source_->local_path(layer.digest).empty() || blobs_->is_cached(plain.digest);
  if (options.head_start && !was_here_) begin_head_start(runtime, name_);
  try {
    use_metadata(map_metadata(runtime, layer, options));
  } catch (const Error&) {
    if (!lazy_blobs_) throw;
    use_metadata(blobs_->map(plain, unfolding(runtime, *source_, layer)));  // all of it is verified
  }
  open_chunks(runtime);
  if (cache_ && cache_->is_usable()) {
    files_ = std::make_unique<FileStore>(runtime, *cache_, *chunks_);
  }
}

void Image::use_metadata(Blob blob) {
  metadata_blob_ = std::move(blob);
  metadata_ = std::make_unique<format::Metadata>(metadata_blob_->bytes(), metadata_blob_->watch());
}

format::Descriptor Image::metadata_descriptor() const {
  return plain_metadata(format::metadata_layer(manifest_, name_));
}

const Cache* Image::cache_for_notes() const {
  if (!lazy_blobs_) return nullptr;
  const auto* const cache = cache_ ? cache_.get() : layout_cache_.get();
  return cache->is_usable() ? cache : nullptr;
}

std::shared_ptr<const format::Metadata> Image::metadata_to_walk() const {
  struct Walkable {
    explicit Walkable(Blob again) : blob(std::move(again)) {}
    const Blob blob;
    const format::Metadata metadata{blob.bytes(), blob.watch()};
  };
  std::optional<Blob> again;
  try {
    again = metadata_blob_->again();
  } catch (const Error& error) {
    spdlog::debug("The walk uses the memory of the metadata: {}", error.what());
  }
  if (!again) return {std::shared_ptr<void>(), metadata_.get()};
  const auto walkable = std::make_shared<Walkable>(std::move(*again));
  return {walkable, &walkable->metadata};
}

std::optional<BlobNote> Image::recall_note() const {
  const auto* const cache = cache_for_notes();
  return cache != nullptr ? cache->notes().recall(metadata_descriptor()) : std::nullopt;
}

void Image::keep_note(ByteView note) const {
  const auto* const cache = cache_for_notes();
  if (cache == nullptr) return;
  try {
    cache->notes().remember(metadata_descriptor(), note);
  } catch (const Error& error) {
    spdlog::debug("The next mount has to walk the metadata again: {}", error.what());
  }
}

Blob Image::map_metadata(Runtime& runtime, const format::Descriptor& layer,
                         const ImageOptions& options) {
  const auto plain = plain_metadata(layer);
  const auto get = unfolding(runtime, *source_, layer);
  const auto verity = plain_verity(layer);
  // What the kernel answers for is mapped anyway.
  const bool is_lazy = options.lazy_metadata && verity && plain.size >= LazyBlobs::kLeastSize &&
                       !options.manifest_verity && (cache_ || !cache_directory(options).empty());
  if (!is_lazy) return blobs_->map(plain, get);
  if (!cache_) {
    layout_cache_ = std::make_unique<Cache>(cache_directory(options), options.cache_limits,
                                            CacheNames::kIgnore);
    layout_blobs_ = std::make_unique<BlobStore>(runtime, *source_, layout_cache_.get());
  }
  lazy_blobs_ = std::make_unique<LazyBlobs>(layout_blobs_ ? *layout_blobs_ : *blobs_,
                                            cache_ ? *cache_ : *layout_cache_);
  return lazy_blobs_->map(plain, get, *verity);
}

void Image::begin_head_start(Runtime& runtime, const std::string& name) {
  if (!client_ || !cache_->is_usable()) return;
  // Of another image by that name the cache has most chunks already.
  if (cache_->recall(name)) return;
  if (const auto range = hot_range_of(manifest_)) {
    head_start_ = std::make_unique<HeadStart>(runtime, *source_, *range);
  }
}

void Image::end_head_start() {
  if (head_start_) head_start_->release();
}

void Image::open_chunks(Runtime& runtime) {
  if (metadata_->pack_count() == 0) {
    chunks_ =
        std::make_unique<ChunkStore>(*blobs_, manifest_, ChunkStore::kDefaultMemoryLimit, &stats_);
    return;
  }
  auto& source = head_start_ ? *head_start_ : *source_;
  packs_ = std::make_unique<PackReader>(runtime, source, *metadata_);
  if (fs_verity_) packs_->use_fs_verity(*fs_verity_);
  chunks_ = std::make_unique<ChunkStore>(runtime, *blobs_, *metadata_, *packs_,
                                         ChunkStore::kDefaultMemoryLimit, &stats_);
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
