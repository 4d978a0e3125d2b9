// Where the blobs of one image come from: a local layout or a repository of a registry.
#pragma once

#include <string>

#include "fetch/outcome.h"
#include "format/bytes.h"
#include "format/oci.h"

namespace puzzlefs::fetch {

/// One way to ask for a blob.
enum class Freshness {
  kAny,     // whatever answers
  kBypass,  // past HTTP caches: an earlier answer failed its verification
};

/// Thread-safe. What arrives is not verified yet: BlobStore does that.
class BlobSource {
 public:
  virtual ~BlobSource() = default;

  /// The bytes of a blob, never more than its descriptor's size. Fails with NotFoundError,
  /// UnavailableError (after the source's own retries and deadline) or another Error.
  virtual void read(const format::Descriptor& blob, Freshness freshness,
                    Completion<Bytes> done) = 0;

  /// Fails reads that wait to be tried anew, and those to come, with UnavailableError. Thread-safe,
  /// does not block. A source that never waits need not do anything.
  virtual void close() {}

  /// A file on this machine that holds the blob, or an empty path. Files of a source are read in
  /// place and are not copied into the cache.
  virtual std::string local_path(const format::Digest&) const { return {}; }

  /// For messages: "registry.example/debian" or "the layout /srv/images".
  virtual std::string description() const = 0;
};

}  // namespace puzzlefs::fetch
