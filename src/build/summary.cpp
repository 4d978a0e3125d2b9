#include "build/summary.h"

#include <unordered_map>

#include "fetch/kept_blobs.h"
#include "format/verity.h"

namespace puzzlefs::build {

namespace {

void count_inode(const format::Inode& inode, Summary& summary) {
  ++summary.inodes;
  switch (inode.type()) {
    case format::FileType::kRegular:
      ++summary.files;
      summary.bytes += inode.size();
      return;
    case format::FileType::kDirectory:
      ++summary.directories;
      return;
    case format::FileType::kSymlink:
      ++summary.symlinks;
      return;
    default:
      ++summary.others;
      return;
  }
}

// An inode of a layer is part of the tree if no layer above has its number.
void count_inodes(const format::Metadata& metadata, Summary& summary) {
  const auto hidden = [&](std::uint32_t layer, format::InodeNumber number) {
    for (std::uint32_t above = 0; above < layer; ++above)
      if (metadata.find_in_layer(above, number)) return true;
    return false;
  };
  for (std::uint32_t layer = 0; layer < metadata.layer_count(); ++layer)
    for (std::uint32_t i = 0; i < metadata.inode_count(layer); ++i) {
      const auto inode = metadata.inode(layer, i);
      if (inode.type() != format::FileType::kWhiteout && !hidden(layer, inode.number()))
        count_inode(inode, summary);
    }
}

void count_packed_chunks(const format::Metadata& metadata, Summary& summary) {
  summary.packs = metadata.pack_count();
  summary.chunks = metadata.chunk_count();
  summary.distinct_chunks = metadata.chunk_count();
  for (std::uint32_t i = 0; i < metadata.chunk_count(); ++i) {
    summary.stored_bytes += metadata.chunk(format::ChunkIndex{i}).stored_size;
  }
}

void count_chunks(const format::Manifest& manifest, Summary& summary) {
  std::unordered_map<format::Digest, std::uint64_t> uses;
  for (const auto& layer : manifest.layers) {
    if (&layer == &manifest.layers.front()) continue;  // the metadata
    ++summary.chunks;
    const auto count = ++uses[layer.digest];
    if (count == 1) summary.stored_bytes += layer.size;
    if (count == 2) ++summary.shared_chunks;
  }
  summary.distinct_chunks = uses.size();
}

}  // namespace

Summary summarize(fetch::Image& image) {
  Summary summary;
  summary.name = image.name();
  summary.manifest_digest = image.manifest_digest();
  summary.manifest_verity = format::verity_digest(image.manifest_document());
  const auto& metadata = format::metadata_layer(image.manifest(), image.name());
  summary.metadata_bytes = metadata.size;
  const auto verity = metadata.annotations.find(std::string(format::kVerityAnnotation));
  if (verity != metadata.annotations.end())
    summary.metadata_verity = format::Digest::parse_hex(verity->second);
  count_inodes(image.metadata(), summary);
  if (fetch::is_packed(image.manifest())) {
    count_packed_chunks(image.metadata(), summary);
  } else {
    count_chunks(image.manifest(), summary);
  }
  return summary;
}

}  // namespace puzzlefs::build
