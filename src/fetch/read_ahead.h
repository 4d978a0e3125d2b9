// What to fetch along with a chunk that somebody reads.
#pragma once

#include <cstdint>
#include <list>
#include <optional>

#include "format/metadata.h"

namespace puzzlefs::fetch {

/// Chunks from `first` up to `end`, without it, all of one pack.
struct ChunkWindow {
  format::ChunkIndex first{};
  format::ChunkIndex end{};

  bool operator==(const ChunkWindow&) const = default;
};

/// Follows readers by the places in the packs that they read: files that belong together lie
/// together. Around a chunk that is far from all others some are fetched with it, about as much as
/// the link carries in the time of a round trip, and twice as much each further time in the same
/// region: of a directory of which some is needed more is. Who reads on gets windows that grow,
/// each asked for when the middle of the one before is read (as Linux reads ahead in files,
/// mm/readahead.c). Not thread-safe.
class ReadAhead {
 public:
  /// In stored bytes: what lies before a chunk, and from it on, that is read out of the blue.
  static constexpr std::uint64_t kBehind = 64 << 10;
  static constexpr std::uint64_t kFirstWindow = 192 << 10;
  static constexpr std::uint64_t kWidestWindow = 1 << 20;
  static constexpr std::uint64_t kRegion = 8 << 20;
  static constexpr std::uint64_t kLongestWindow = 4 << 20;

  /// `metadata` must outlive the object.
  explicit ReadAhead(const format::Metadata& metadata) : metadata_(metadata) {}

  /// What to fetch with a chunk that has to be fetched, itself included; one that lies in what was
  /// fetched for a reader before goes alone. Throws CorruptError if the
  /// image's table of chunks is malformed.
  ChunkWindow on_miss(format::ChunkIndex chunk);
  /// What to fetch since somebody reads a chunk that was fetched ahead, if anything.
  std::optional<ChunkWindow> on_hit(format::ChunkIndex chunk);

  /// All chunks of the pack that `chunk` lies in.
  ChunkWindow whole_pack(format::ChunkIndex chunk) const;

 private:
  /// Somebody who reads on.
  struct Stream {
    format::ChunkIndex first{};   // of what was fetched last
    format::ChunkIndex marker{};  // when it is read the next window is fetched
    format::ChunkIndex end{};     // of it
    std::uint64_t size = 0;       // of the last window, in stored bytes
  };
  static constexpr std::size_t kMaxStreams = 32;
  /// A stretch of a pack.
  struct Region {
    std::uint32_t pack = 0;
    std::uint64_t number = 0;
    std::uint64_t window = 0;  // that was fetched last
  };
  static constexpr std::size_t kMaxRegions = 32;

  ChunkWindow forward(format::ChunkIndex first, std::uint64_t size) const;
  format::ChunkIndex behind(format::ChunkIndex chunk, std::uint64_t size) const;
  std::uint64_t next_window(format::ChunkIndex chunk);
  bool ends_hot_pack(format::ChunkIndex end) const;
  ChunkWindow go_on(std::list<Stream>::iterator stream);

  const format::Metadata& metadata_;
  std::list<Stream> streams_;  // the one that was read last first
  std::list<Region> regions_;  // the same
};

}  // namespace puzzlefs::fetch
