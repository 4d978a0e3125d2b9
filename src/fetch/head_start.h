// The beginning of a pack, asked for before the metadata is here that says what lies there.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "fetch/blob_source.h"
#include "fetch/runtime.h"
#include "format/oci.h"

namespace puzzlefs::fetch {

/// What a start is expected to need, as the manifest says by kHotSizeAnnotation: the first pack
/// that has any, if it is no more than HeadStart::kLargest.
struct HotRange {
  format::Descriptor pack;
  std::uint64_t size = 0;
};
/// Nothing if there is none, or what is said makes no sense.
std::optional<HotRange> hot_range_of(const format::Manifest& manifest);

/// A source of packs that has asked for that range when it was made. Who reads of it gets what has
/// come at once and the rest as it comes, without a request; all else is asked of the source
/// behind. Of what breaks off the rest is asked for anew, by itself. Thread-safe.
class HeadStart : public BlobSource {
 public:
  /// So much is held in memory, until release().
  static constexpr std::uint64_t kLargest = 16 << 20;

  /// `runtime` and `source` must outlive the object and what is asked of it.
  HeadStart(Runtime& runtime, BlobSource& source, const HotRange& range);
  /// Ends what is under way. Nothing may be asked of it any more.
  ~HeadStart() override;
  HeadStart(const HeadStart&) = delete;
  HeadStart& operator=(const HeadStart&) = delete;

  /// Whoever wanted something of the range has it: from now on it is asked of the source again.
  void release();

  void read(const format::Descriptor& blob, Freshness freshness, Completion<Bytes> done) override {
    source_.read(blob, freshness, std::move(done));
  }
  std::shared_ptr<RangeRead> read_range(const format::Descriptor& blob, ByteRange range,
                                        Freshness freshness, RangeReceiver on_bytes,
                                        Completion<Done> done) override;
  void close() override { source_.close(); }
  std::uint64_t setbacks() const override { return source_.setbacks(); }
  std::string local_path(const format::Digest& blob) const override {
    return source_.local_path(blob);
  }
  std::string description() const override { return source_.description(); }

 private:
  class Stream;

  BlobSource& source_;
  const std::shared_ptr<Stream> stream_;
};

}  // namespace puzzlefs::fetch
