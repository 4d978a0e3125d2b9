// Which chunks an image has, and in which order they are to be stored.
#pragma once

#include <cstddef>
#include <unordered_map>
#include <vector>

#include "format/digest.h"
#include "format/metadata.h"
#include "format/metadata_writer.h"

namespace puzzlefs::build {

/// The chunks of an image, each once: first those that a start needs, in that order, then the
/// others as they first come up in the tree.
class ChunkOrder {
 public:
  /// `hot` are digests of chunks as the pieces of `tree` name them.
  ChunkOrder(const std::vector<format::InodeRecord>& tree, const std::vector<format::Digest>& hot);

  /// Each by a piece of it.
  const std::vector<format::ChunkRef>& chunks() const { return chunks_; }
  /// The place in chunks() of the chunk that `piece` lies in.
  std::size_t place(const format::ChunkRef& piece) const;
  /// How many of the first ones a start needs.
  std::size_t hot_count() const { return hot_count_; }
  /// How many of `hot` the image does not have.
  std::size_t unknown_count() const { return unknown_count_; }

 private:
  // A blob that metadata names both as compressed and as not gives two chunks.
  struct Key {
    format::Digest digest;
    bool compressed;

    bool operator==(const Key&) const = default;
  };
  struct KeyHash {
    std::size_t operator()(const Key& key) const {
      return std::hash<format::Digest>()(key.digest) ^ static_cast<std::size_t>(key.compressed);
    }
  };

  void put_first(const std::vector<format::Digest>& hot);

  std::vector<format::ChunkRef> chunks_;
  std::unordered_map<Key, std::size_t, KeyHash> places_;
  std::size_t hot_count_ = 0;
  std::size_t unknown_count_ = 0;
};

}  // namespace puzzlefs::build
