// An image, opened for reading from wherever it is.
#pragma once

#include <chrono>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>

#include "fetch/blob_store.h"
#include "fetch/cache.h"
#include "fetch/chunk_store.h"
#include "fetch/fs_verity.h"
#include "fetch/registry.h"
#include "fetch/runtime.h"
#include "format/image_name.h"
#include "format/metadata.h"
#include "format/oci.h"

namespace puzzlefs::fetch {

struct ImageOptions {
  HttpOptions http;
  RegistryOptions registry;
  /// How long opening an image may wait for its registry.
  std::chrono::seconds open_deadline{5};
  /// Empty takes default_cache_directory(). Layouts are read in place, without a cache.
  std::filesystem::path cache_directory;
  /// The fs-verity digest that the manifest must have. It authenticates the image, so that the
  /// kernel's word on the files of a layout can take the place of hashing them.
  std::optional<format::Digest> manifest_verity;
  /// With manifest_verity: whether every file must have fs-verity, or else is hashed.
  bool require_fs_verity = false;
};

/// The metadata in memory and the means to get chunks. Thread-safe after construction.
/// Destroy it only when no read is under way.
class Image {
 public:
  /// Resolves the name, gets and verifies manifest and metadata. A registry that cannot be reached
  /// is replaced by what the cache remembers, with a warning. Throws Error; CorruptError for a
  /// manifest of another fs-verity digest than the options ask for. Blocks.
  static std::unique_ptr<Image> open(Runtime& runtime, const format::ImageName& name,
                                     const ImageOptions& options);
  ~Image();

  /// The name with its digest, for messages.
  const std::string& name() const { return name_; }
  const format::Digest& manifest_digest() const { return manifest_digest_; }
  /// The manifest's own bytes.
  ByteView manifest_document() const { return manifest_document_; }
  const format::Manifest& manifest() const { return manifest_; }
  const format::Metadata& metadata() const { return *metadata_; }
  ChunkStore& chunks() { return *chunks_; }
  BlobStore& blobs() { return *blobs_; }

  /// Fails all reads from the registry that are under way and to come with UnavailableError.
  /// Thread-safe, does not block.
  void close();

 private:
  Image() = default;
  void open_layout(Runtime& runtime, const format::LayoutName& name, const ImageOptions& options);
  void open_registry(Runtime& runtime, const format::RegistryName& name,
                     const ImageOptions& options);
  /// Checks the manifest against the fs-verity digest that it must have, and prepares the check of
  /// all other files against what the image records.
  void authenticate(const ImageOptions& options);
  std::optional<format::Digest> recorded_verity(const format::Digest& blob) const;
  /// Takes the verified manifest and gets the metadata that it names.
  void use_manifest(Bytes document, const format::Digest& digest, std::string name,
                    const ImageOptions& options);

  // In the order of need: each is destroyed before what it uses.
  std::string name_;
  std::unique_ptr<HttpClient> client_;
  std::unique_ptr<BlobSource> source_;
  std::unique_ptr<Cache> cache_;
  std::unique_ptr<FsVerityCheck> fs_verity_;  // null without a digest to start from
  std::unique_ptr<BlobStore> blobs_;
  Bytes manifest_document_;
  format::Digest manifest_digest_;
  format::Manifest manifest_;
  std::optional<Blob> metadata_blob_;
  std::unique_ptr<format::Metadata> metadata_;
  std::unique_ptr<ChunkStore> chunks_;
};

}  // namespace puzzlefs::fetch
