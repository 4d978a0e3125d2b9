// Where the blobs of one image come from: a local layout or a repository of a registry.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
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

/// A stretch of a blob.
struct ByteRange {
  std::uint64_t offset = 0;
  std::uint64_t size = 0;

  std::uint64_t end() const { return offset + size; }
  bool operator==(const ByteRange&) const = default;
};

/// Takes bytes of a blob as they come; `offset` is where in the blob they lie. They are only lent
/// for the call. Must neither block nor throw: it runs where the network is served.
using RangeReceiver = std::function<void(std::uint64_t offset, ByteView bytes)>;

/// A ranged read under way. Thread-safe; of no effect once the read is over, and for sources that
/// give everything at once. Not to be used any more when the threads of its source have ended.
class RangeRead {
 public:
  virtual ~RangeRead() = default;

  /// Holds the read back, or lets it go on: the server is told to wait, so that others have the
  /// link. The connection is kept, and counts among those of its host. Called on the thread that
  /// bytes come on, nothing comes after it; what has been called on another may cross with bytes
  /// that come just then. Time in which it is held back counts towards no deadline.
  virtual void set_paused(bool /*paused*/) {}
  /// Ends the read with UnavailableError, soon but not within this call. What was said of bytes
  /// that still come goes for this too.
  virtual void cancel() {}
};

/// Throws CorruptError, naming the blob, for a range that does not lie within it.
void check_range(const format::Descriptor& blob, ByteRange range);

/// Thread-safe. What arrives is not verified yet: BlobStore does that.
class BlobSource {
 public:
  virtual ~BlobSource() = default;

  /// The bytes of a blob, never more than its descriptor's size. Fails with NotFoundError,
  /// UnavailableError (after the source's own retries and deadline) or another Error.
  virtual void read(const format::Descriptor& blob, Freshness freshness,
                    Completion<Bytes> done) = 0;

  /// Reads a stretch of a blob. All bytes of it are handed to `on_bytes`, in order and none twice,
  /// before `done` succeeds; what has come is handed on at once, not when all has. A source that
  /// can give only whole blobs (a server without ranges) gives the whole blob, from its first byte
  /// on: bytes before and after the range may come as well, in order too. What broke off is gone
  /// on with from there, perhaps at another server. `on_bytes` and `done` run as the completions
  /// of read() do, never two at a time, and for sources that have the bytes at hand before this
  /// returns; after `done` neither is kept. Fails as read(), after having given any part, and with
  /// CorruptError when the range does not lie within the blob, as the image or the source has it.
  virtual std::shared_ptr<RangeRead> read_range(const format::Descriptor& blob, ByteRange range,
                                                Freshness freshness, RangeReceiver on_bytes,
                                                Completion<Done> done) = 0;

  /// Fails reads that wait to be tried anew, and those to come, with UnavailableError. Thread-safe,
  /// does not block. A source that never waits need not do anything.
  virtual void close() {}

  /// A file on this machine that holds the blob, or an empty path. Files of a source are read in
  /// place and are not copied into the cache.
  virtual std::string local_path(const format::Digest&) const { return {}; }

  /// How often so far a server said "later", or did not answer in time: a sign that less should be
  /// asked for at once. Thread-safe.
  virtual std::uint64_t setbacks() const { return 0; }

  /// For messages: "registry.example/debian" or "the layout /srv/images".
  virtual std::string description() const = 0;
};

}  // namespace puzzlefs::fetch
