// The road of a build, top to bottom: the calling thread walks the tree, reads and cuts; the chunk
// writer's threads hash, compress and store; then the files are laid over the chunks, and metadata,
// manifest and tag are written, in this order.
#include "build/build_image.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <cerrno>
#include <map>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

#include "build/buffer_pool.h"
#include "build/chunk_writer.h"
#include "build/content_stream.h"
#include "build/file_reader.h"
#include "build/tree_walk.h"
#include "fetch/image.h"
#include "fetch/runtime.h"
#include "format/error.h"
#include "format/metadata_writer.h"
#include "format/oci.h"
#include "format/verity.h"

namespace puzzlefs::build {
namespace {

// Buffers that wait or are filled while each thread holds one.
constexpr unsigned kSpareBuffers = 4;

// Where a file's contents lie in the stream.
struct Extent {
  std::size_t record;
  std::uint64_t offset;
  std::uint64_t size;
};

void append_file(const WalkedFile& file, ContentStream& stream,
                 const std::function<void(std::uint64_t)>& on_progress) {
  FileReader reader(file.fd, file.status, file.path);
  while (const std::size_t size = reader.read(stream.space())) {
    stream.append(size);
    if (on_progress) on_progress(stream.size());
  }
}

// Gives each file the pieces of chunks that its extent covers. Extents are in stream order.
void lay_over_chunks(const std::vector<Extent>& extents, const std::vector<StoredChunk>& chunks,
                     std::vector<format::InodeRecord>& inodes) {
  auto chunk = chunks.begin();
  std::uint64_t chunk_offset = 0;  // in the stream
  for (const Extent& extent : extents) {
    std::uint64_t at = extent.offset;
    const std::uint64_t end = extent.offset + extent.size;
    while (at < end) {
      while (chunk_offset + chunk->size <= at) chunk_offset += (chunk++)->size;
      const std::uint64_t size = std::min(end, chunk_offset + chunk->size) - at;
      inodes[extent.record].chunks.push_back({.blob = chunk->digest,
                                              .offset = at - chunk_offset,
                                              .size = size,
                                              .compressed = chunk->compressed});
      at += size;
    }
  }
}

// The records of one layer of an image.
std::vector<format::InodeRecord> layer_records(const format::Metadata& metadata,
                                               std::uint32_t layer) {
  std::vector<format::InodeRecord> records;
  const std::uint32_t count = metadata.inode_count(layer);
  records.reserve(count);
  for (std::uint32_t i = 0; i < count; ++i)
    records.push_back(format::to_record(metadata.inode(layer, i)));
  return records;
}

// The metadata of the tree: a layer of its own, or one upon those of the base. A base that has an
// equal layer already is what the tree looks like.
Bytes make_metadata(std::vector<format::InodeRecord> inodes,
                    const std::vector<format::VerityRecord>& verity, const format::Metadata* base) {
  std::sort(inodes.begin(), inodes.end(),
            [](const auto& a, const auto& b) { return a.ino < b.ino; });
  if (base == nullptr) return format::write_metadata({std::move(inodes)}, verity);

  std::vector<std::vector<format::InodeRecord>> layers;
  for (std::uint32_t layer = 0; layer < base->layer_count(); ++layer)
    layers.push_back(layer_records(*base, layer));
  if (std::find(layers.begin(), layers.end(), inodes) == layers.end())
    layers.insert(layers.begin(), std::move(inodes));

  std::map<format::Digest, format::Digest> all(verity.begin(), verity.end());
  for (std::uint32_t i = 0; i < base->verity_count(); ++i) all.insert(base->verity_at(i));
  return format::write_metadata(layers, {all.begin(), all.end()});
}

format::Descriptor write_blob(const fetch::Layout& layout, std::string_view media_type,
                              ByteView bytes) {
  format::Descriptor descriptor;
  descriptor.media_type = media_type;
  descriptor.digest = format::sha256(bytes);
  descriptor.size = bytes.size();
  layout.write_blob(descriptor.digest, bytes);
  return descriptor;
}

// Chunks of a compressed build all have the one media type, those stored as they are too: a chunk's
// form stands in the metadata.
format::Manifest make_manifest(const format::Descriptor& metadata,
                               const std::vector<StoredChunk>& chunks, bool compress) {
  format::Manifest manifest;
  manifest.config = format::empty_config();
  manifest.layers.reserve(chunks.size() + 1);
  manifest.layers.push_back(metadata);
  for (const StoredChunk& chunk : chunks) {
    format::Descriptor layer;
    layer.media_type = compress ? format::kFiledataZstdType : format::kFiledataType;
    layer.digest = chunk.digest;
    layer.size = chunk.stored_size;
    manifest.layers.push_back(std::move(layer));
  }
  return manifest;
}

// Writes what makes an image of the chunks; gives the manifest's document.
std::string write_documents(const fetch::Layout& layout, const Bytes& metadata,
                            const std::vector<StoredChunk>& chunks, bool compress) {
  format::Descriptor layer = write_blob(layout, format::kRootfsType, metadata);
  layer.annotations.emplace(format::kVerityAnnotation, format::verity_digest(metadata).hex());
  write_blob(layout, format::kEmptyType, as_bytes(format::kEmptyConfigBlob));
  return format::to_json_text(make_manifest(layer, chunks, compress));
}

// The image to build upon, if there is one.
std::unique_ptr<fetch::Image> open_base(fetch::Runtime& runtime, const fetch::Layout& layout,
                                        const std::string& tag) {
  if (tag.empty()) return nullptr;
  return fetch::Image::open(runtime, format::LayoutName{layout.path(), tag},
                            {.registry = {.credentials = fetch::Credentials()}});
}

unsigned thread_count(const BuildOptions& options) {
  return options.threads > 0 ? options.threads : std::max(1U, std::thread::hardware_concurrency());
}

}  // namespace

BuildResult build_image(const std::filesystem::path& rootfs, const fetch::Layout& layout,
                        const std::string& tag, const BuildOptions& options) {
  fetch::Runtime runtime(1);
  const auto base_image = open_base(runtime, layout, options.base_tag);
  const format::Metadata* base = base_image ? &base_image->metadata() : nullptr;

  const unsigned threads = thread_count(options);
  BufferPool buffers(threads + kSpareBuffers, ContentStream::kBufferSize);
  ChunkWriter writer(layout, options.compress, threads);
  ContentStream stream(buffers, [&](Slice chunk) { writer.add(std::move(chunk)); });

  std::vector<Extent> extents;
  auto inodes = walk_tree(rootfs, base, [&](const WalkedFile& file) {
    extents.push_back(
        {file.record, stream.size(), static_cast<std::uint64_t>(file.status.st_size)});
    append_file(file, stream, options.on_progress);
  });
  stream.finish();
  const StoredChunks stored = writer.finish();

  lay_over_chunks(extents, stored.chunks, inodes);
  const std::uint64_t inode_count = inodes.size();
  const Bytes metadata = make_metadata(std::move(inodes), stored.verity, base);
  const std::string manifest = write_documents(layout, metadata, stored.chunks, options.compress);
  if (manifest.size() > format::kMaxManifestSize) {
    spdlog::warn("The manifest of {} has {} bytes for {} chunks; registries refuse more than {}.",
                 tag, manifest.size(), stored.chunks.size(), format::kMaxManifestSize);
  }
  BuildResult result;
  result.manifest = write_blob(layout, format::kManifestType, as_bytes(manifest));
  layout.sync();
  layout.set_tag(tag, result.manifest);

  result.manifest_verity = format::verity_digest(as_bytes(manifest));
  result.inodes = inode_count;
  result.content_bytes = stream.size();
  result.chunks = stored.chunks.size();
  result.distinct_chunks = stored.verity.size();
  result.new_blobs = stored.new_blobs;
  result.new_bytes = stored.new_bytes;
  return result;
}

}  // namespace puzzlefs::build
