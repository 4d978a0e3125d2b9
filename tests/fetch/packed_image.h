// A packed image made of chunks that a test chooses: its packs for a source, its metadata.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "../support/metadata_blob.h"
#include "format/metadata.h"
#include "format/metadata_writer.h"
#include "format/zstd_frame.h"
#include "memory_source.h"

namespace puzzlefs::fetch {

class PackedImage {
 public:
  /// Adds a chunk to the last pack, compressed where that makes it smaller. The tree's only file
  /// has all chunks, one after the other.
  format::ChunkIndex add(std::string_view content) {
    const auto frame = format::FrameCompressor().compress(as_bytes(content));
    const auto stored = frame ? std::string(as_text(*frame)) : std::string(content);
    if (packs_.empty()) start_pack();
    const format::ChunkIndex index{static_cast<std::uint32_t>(contents_.chunks.size())};
    contents_.chunks.push_back({.digest = format::sha256(as_bytes(content)),
                                .pack = static_cast<std::uint32_t>(packs_.size() - 1),
                                .offset = packs_.back().size(),
                                .stored_size = static_cast<std::uint32_t>(stored.size()),
                                .size = static_cast<std::uint32_t>(content.size())});
    packs_.back() += stored;
    return index;
  }
  /// Bytes between the chunks that are no chunk.
  void add_gap(std::size_t size) { packs_.back() += std::string(size, '-'); }
  void start_pack() { packs_.emplace_back(); }
  /// The first `size` bytes of a pack are what a start needs.
  void mark_hot(std::size_t pack, std::uint64_t size) { hot_sizes_[pack] = size; }

  /// Puts the packs into `source` and makes the metadata. Nothing can be added then.
  void finish(MemorySource& source) {
    for (std::size_t i = 0; i < packs_.size(); ++i) {
      const auto descriptor = source.add(packs_[i], format::kPackType);
      contents_.packs.push_back(
          {.digest = descriptor.digest, .size = descriptor.size, .hot_size = hot_sizes_[i]});
    }
    format::InodeRecord root{.ino = format::kRootInode, .type = format::FileType::kDirectory};
    root.entries.push_back({format::InodeNumber{2}, "file"});
    format::InodeRecord file{.ino = format::InodeNumber{2}};
    for (std::uint32_t i = 0; i < contents_.chunks.size(); ++i) {
      file.chunks.push_back(piece(format::ChunkIndex{i}));
    }
    blob_ = format::write_packed_metadata({{root, file}}, contents_);
    metadata_.emplace(blob_);
  }

  format::ChunkRef piece(format::ChunkIndex index) const {
    const auto& chunk = contents_.chunks[format::to_integer(index)];
    return {.blob = chunk.digest, .offset = 0, .size = chunk.size, .index = index};
  }
  const format::PackedChunk& chunk(format::ChunkIndex index) const {
    return contents_.chunks[format::to_integer(index)];
  }
  const format::Metadata& metadata() const { return *metadata_; }
  /// May be changed before finish().
  format::PackedContents& contents() { return contents_; }

 private:
  std::vector<std::string> packs_;
  std::map<std::size_t, std::uint64_t> hot_sizes_;
  format::PackedContents contents_;
  Bytes blob_;
  std::optional<format::Metadata> metadata_;
};

/// Bytes that do not compress, different for each `seed`.
inline std::string noise(std::size_t size, std::uint32_t seed) {
  std::string text(size, '\0');
  std::uint64_t state = seed * 2654435761U + 1;
  for (auto& byte : text) {
    state = state * 6364136223846793005U + 1442695040888963407U;
    byte = static_cast<char>(state >> 56U);
  }
  return text;
}

}  // namespace puzzlefs::fetch
