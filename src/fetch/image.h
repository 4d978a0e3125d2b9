// An image, opened for reading from wherever it is.
#pragma once

#include <chrono>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>

#include "fetch/blob_notes.h"
#include "fetch/blob_store.h"
#include "fetch/cache.h"
#include "fetch/choose_manifest.h"
#include "fetch/chunk_store.h"
#include "fetch/fetch_stats.h"
#include "fetch/file_store.h"
#include "fetch/fs_verity.h"
#include "fetch/head_start.h"
#include "fetch/lazy_blobs.h"
#include "fetch/pack_reader.h"
#include "fetch/registry.h"
#include "fetch/runtime.h"
#include "fetch/whole_files.h"
#include "format/image_name.h"
#include "format/metadata.h"
#include "format/oci.h"

namespace puzzlefs::fetch {

struct ImageOptions {
  HttpOptions http;
  RegistryOptions registry;
  /// How long opening an image may wait for its registry.
  std::chrono::seconds open_deadline{5};
  /// Empty takes default_cache_directory(). Layouts are read in place, without a cache but for
  /// lazy metadata.
  std::filesystem::path cache_directory;
  CacheLimits cache_limits = CacheLimits();
  /// Whether only the cache is asked, and no registry.
  bool offline = false;
  /// Whether what the cache remembers takes the place of a registry that cannot be reached.
  bool falls_back = true;
  /// Whether what a start is expected to need is asked for together with the metadata, of an image
  /// that this cache has never seen under its name. For those who go on to read it.
  bool head_start = false;
  /// Whether large metadata is verified where it is looked at, by what the cache keeps for that, of
  /// a layout too. For those who may go on for long, and look at a part.
  bool lazy_metadata = false;
  /// Which image of an index.
  format::Platform platform = format::host_platform();
  /// The fs-verity digest that the manifest must have. It authenticates the image, so that the
  /// kernel's word on the files of a layout can take the place of hashing them.
  std::optional<format::Digest> manifest_verity;
  /// With manifest_verity: whether every file must have fs-verity, or else is hashed.
  bool require_fs_verity = false;
};

/// The metadata in memory and the means to get chunks. Thread-safe after construction.
/// Destroy it only when no read is under way, and no file being opened.
class Image {
 public:
  /// Resolves the name, gets and verifies manifest and metadata. A registry that cannot be reached
  /// is replaced by what the cache remembers, with a warning, unless told otherwise; offline it is
  /// not asked at all, and what is not in the cache fails with UnavailableError. Throws Error;
  /// CorruptError for a manifest of another fs-verity digest than the options ask for. Blocks.
  static std::unique_ptr<Image> open(Runtime& runtime, const format::ImageName& name,
                                     const ImageOptions& options);
  /// As close(), and gives up making whole files in the background.
  ~Image();

  /// The name with its digest, for messages.
  const std::string& name() const { return name_; }
  const format::Digest& manifest_digest() const { return manifest_digest_; }
  /// What the name stands for: the manifest, or an index that leads to it.
  const format::Digest& named_digest() const { return named_digest_; }
  /// The manifest's own bytes.
  ByteView manifest_document() const { return manifest_document_; }
  const format::Manifest& manifest() const { return manifest_; }
  const format::Metadata& metadata() const { return *metadata_; }
  /// The metadata for one who looks at all of it: where it is lazy, in memory of its own, which is
  /// free again with the result. Throws as its methods do. This object must outlive it.
  std::shared_ptr<const format::Metadata> metadata_to_walk() const;
  /// What such a one has left on this machine for the next; nothing where metadata is not lazy.
  std::optional<BlobNote> recall_note() const;
  /// Leaves it, if it can be. Call it only for metadata of which nothing was wrong.
  void keep_note(ByteView note) const;
  /// The metadata's own bytes, uncompressed.
  ByteView metadata_bytes() const { return metadata_blob_->bytes(); }
  ChunkStore& chunks() { return *chunks_; }
  BlobStore& blobs() { return *blobs_; }
  /// Null for a layout.
  Cache* cache() { return cache_.get(); }
  /// Whether the metadata was on this machine when the image was opened.
  bool was_here() const { return was_here_; }
  /// The image's repository, for what can be done without, as Registry::trying_once(). Null for a
  /// layout, and offline.
  Registry* extras() { return extras_.get(); }
  /// Null for a layout, or if there is no directory for a cache.
  WholeFiles* whole_files() { return files_.get(); }

  /// What was fetched for this image by this object.
  const FetchStats& stats() const { return stats_; }

  /// What a start is expected to need is in the cache, so that it need not be held in memory.
  void end_head_start();

  /// Fails all reads from the registry that are under way and to come with UnavailableError.
  /// Thread-safe, does not block.
  void close();

 private:
  Image() = default;
  void open_layout(Runtime& runtime, const format::LayoutName& name, const ImageOptions& options);
  void open_registry(Runtime& runtime, const format::RegistryName& name,
                     const ImageOptions& options);
  void open_offline(Runtime& runtime, const format::RegistryName& name,
                    const ImageOptions& options);
  void open_chunks(Runtime& runtime);
  void open_cache(const ImageOptions& options);
  void use_metadata(Blob blob);
  format::Descriptor metadata_descriptor() const;
  const Cache* cache_for_notes() const;
  Blob map_metadata(Runtime& runtime, const format::Descriptor& layer, const ImageOptions& options);
  void begin_head_start(Runtime& runtime, const std::string& name);
  /// Checks the manifest against the fs-verity digest that it must have, and prepares the check of
  /// all other files against what the image records.
  void authenticate(const ImageOptions& options);
  std::optional<format::Digest> recorded_verity(const format::Digest& blob) const;
  /// Takes the verified manifest and gets the metadata that it names.
  void use_manifest(Runtime& runtime, Document document, std::string name,
                    const ImageOptions& options);

  // In the order of need: each is destroyed before what it uses.
  FetchStats stats_;
  std::string name_;
  std::unique_ptr<HttpClient> client_;
  std::unique_ptr<BlobSource> source_;
  std::unique_ptr<Registry> extras_;
  std::unique_ptr<Cache> cache_;
  std::unique_ptr<FsVerityCheck> fs_verity_;  // null without a digest to start from
  std::unique_ptr<BlobStore> blobs_;
  // Null unless it is the lazy metadata of a layout:
  std::unique_ptr<Cache> layout_cache_;
  std::unique_ptr<BlobStore> layout_blobs_;
  std::unique_ptr<LazyBlobs> lazy_blobs_;  // null without lazy metadata
  Bytes manifest_document_;
  format::Digest manifest_digest_;
  format::Digest named_digest_;
  format::Manifest manifest_;
  std::optional<Blob> metadata_blob_;
  bool was_here_ = true;
  std::unique_ptr<format::Metadata> metadata_;
  std::unique_ptr<HeadStart> head_start_;  // null unless there is one
  std::unique_ptr<PackReader> packs_;      // null unless it is a packed image
  std::unique_ptr<ChunkStore> chunks_;
  std::unique_ptr<FileStore> files_;
};

}  // namespace puzzlefs::fetch
