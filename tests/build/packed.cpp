#include "packed.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <set>
#include <sstream>
#include <stdexcept>

#include "format/verity.h"
#include "format/zstd_frame.h"
#include "trees.h"

namespace puzzlefs::test {

PackedImage::PackedImage(const fetch::Layout& layout, const std::string& tag) : base_(layout, tag) {
  const auto document = read_file(layout.blob_path(layout.resolve(tag).digest));
  manifest_ = format::parse_manifest(as_bytes(document), tag);
  for (const auto& layer : manifest_.layers) {
    const auto blob = read_file(layout.blob_path(layer.digest));
    EXPECT_EQ(blob.size(), layer.size);
    EXPECT_EQ(format::sha256(as_bytes(blob)), layer.digest);
    const bool is_pack = &layer != &manifest_.layers.front();
    if (is_pack) {
      EXPECT_EQ(metadata().verity(layer.digest), format::verity_digest(as_bytes(blob)));
    } else {
      EXPECT_EQ(layer.annotations.at(std::string(format::kVerityAnnotation)),
                format::verity_digest(as_bytes(blob)).hex());
    }
  }
}

std::vector<format::Pack> PackedImage::packs() const {
  std::vector<format::Pack> packs;
  for (std::uint32_t i = 0; i < metadata().pack_count(); ++i) packs.push_back(metadata().pack(i));
  return packs;
}

std::vector<format::PackedChunk> PackedImage::chunks() const {
  std::vector<format::PackedChunk> chunks;
  for (std::uint32_t i = 0; i < metadata().chunk_count(); ++i)
    chunks.push_back(metadata().chunk(format::ChunkIndex{i}));
  return chunks;
}

format::Inode PackedImage::at(const std::string& path) const {
  auto inode = metadata().get(format::kRootInode);
  std::istringstream parts(path);
  for (std::string part; std::getline(parts, part, '/');) {
    std::uint32_t i = 0;
    while (i < inode.entry_count() && inode.entry(i).name != part) ++i;
    if (i == inode.entry_count()) throw std::runtime_error("there is no " + path);
    inode = metadata().get(inode.entry(i).ino);
  }
  return inode;
}

std::string PackedImage::content(const std::string& path) {
  const auto inode = at(path);
  std::string text;
  for (std::uint32_t i = 0; i < inode.chunk_count(); ++i) {
    const auto piece = inode.chunk(i);
    text += chunk(metadata().chunk(piece.index)).substr(piece.offset, piece.size);
  }
  EXPECT_EQ(text.size(), inode.size()) << path;
  return text;
}

std::string PackedImage::chunk(const format::PackedChunk& chunk) {
  Bytes bytes = base_.read_stored(chunk);
  if (chunk.is_compressed()) bytes = format::FrameDecompressor().decompress(bytes, chunk.size);
  EXPECT_EQ(bytes.size(), chunk.size);
  EXPECT_EQ(format::sha256(bytes), chunk.digest);
  return std::string(as_text(bytes));
}

void PackedImage::expect_sound(std::uint64_t dead) {
  std::set<format::Digest> digests;
  std::uint64_t stored = 0;
  const auto all = chunks();
  for (const auto& one : all) {
    chunk(one);
    EXPECT_TRUE(digests.insert(one.digest).second) << "twice " << one.digest.hex();
    stored += one.stored_size;
  }
  EXPECT_TRUE(std::is_sorted(all.begin(), all.end(), [](const auto& a, const auto& b) {
    return std::pair(a.pack, a.offset) < std::pair(b.pack, b.offset);
  }));
  std::uint64_t size = 0;
  ASSERT_EQ(manifest_.layers.size(), packs().size() + 1);
  for (std::size_t i = 0; i < packs().size(); ++i) {
    size += packs()[i].size;
    EXPECT_EQ(manifest_.layers[i + 1].digest, packs()[i].digest);
    EXPECT_EQ(manifest_.layers[i + 1].media_type, format::kPackType);
  }
  EXPECT_EQ(size - stored, dead);
}

std::vector<std::string> temporary_files(const fetch::Layout& layout) {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(layout.path() / "blobs" / "sha256"))
    if (entry.path().filename().string().size() != 2 * format::Digest::kSize)
      names.push_back(entry.path().filename());
  return names;
}

}  // namespace puzzlefs::test
