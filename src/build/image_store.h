// The two ends of a transfer of images: where one is read from and where it goes to, each a layout
// or a repository of a registry.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <unordered_set>

#include "build/image_parts.h"
#include "fetch/choose_manifest.h"
#include "fetch/http_client.h"
#include "fetch/outcome.h"
#include "format/digest.h"
#include "format/oci.h"

namespace puzzlefs::build {

/// What became of a blob.
enum class Movement {
  kMoved,
  kMounted,  // the receiver took it from another of its repositories
  kPresent,  // the receiver had it
};

/// Gets the bytes of one blob, verified: in memory, or as a file. Its completion runs on a worker.
using BlobGetter = std::function<void(fetch::Completion<fetch::RequestBody> done)>;

/// Where an image is read from. Must outlive what is started on it. All throw or fail with Error.
class ImageSource {
 public:
  virtual ~ImageSource() = default;

  /// What the image's name stands for, a manifest or an index, verified. Blocks.
  virtual fetch::Document top() = 0;
  /// What an index names, verified. Blocks.
  virtual fetch::Document document(const format::Descriptor& descriptor) = 0;
  /// As a BlobGetter, which `blob` outlives.
  virtual void get(const format::Descriptor& blob, fetch::Completion<fetch::RequestBody> done) = 0;
  /// Whether get() gives bytes in memory, so that their size must be bounded.
  virtual bool holds_in_memory() const = 0;
  /// The image's name, for messages.
  virtual std::string name() const = 0;
};

/// What need not be asked for at the receiver.
struct KnownParts {
  std::optional<format::Digest> top;           // what the image's name stands for now
  std::unordered_set<format::Digest> digests;  // blobs and documents that are there
};

/// Where an image goes to. Must outlive what is started on it. All throw or fail with Error.
class ImageTarget {
 public:
  virtual ~ImageTarget() = default;

  /// What the receiver has for certain. Blocks; changes nothing. Throws UsageError if the
  /// receiver's name cannot stand for `wanted`.
  virtual KnownParts known(const ImageParts& wanted) = 0;
  /// Whether the blob is there, whole. Changes nothing.
  virtual void has(const format::Descriptor& blob, fetch::Completion<bool> done) = 0;
  /// What put() is expected to do, for those who only want to know.
  virtual Movement expected_movement(const format::Descriptor&) const { return Movement::kMoved; }

  /// Before anything is put. Blocks.
  virtual void begin() {}
  /// Stores a blob that it does not have. `get` is called, once, if the bytes are needed.
  virtual void put(const format::Descriptor& blob, const BlobGetter& get,
                   fetch::Completion<Movement> done) = 0;
  /// Stores a manifest or index that another one names. Blocks.
  virtual void put_document(const fetch::Document& document) = 0;
  /// Stores a manifest or index and lets the image's name stand for it; all that was put before is
  /// safe then. Blocks.
  virtual void tag(const fetch::Document& document) = 0;
};

}  // namespace puzzlefs::build
