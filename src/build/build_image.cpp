// The road of a build, top to bottom: the calling thread walks the tree, reads and cuts; the
// threads of a writer hash, compress and store; then the files are laid over the chunks, and
// metadata, manifest and tag are written, in this order.
#include "build/build_image.h"

#include <algorithm>
#include <map>
#include <memory>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include "build/base_image.h"
#include "build/buffer_pool.h"
#include "build/chunk_writer.h"
#include "build/content_stream.h"
#include "build/fastcdc.h"
#include "build/file_reader.h"
#include "build/image_documents.h"
#include "build/link_counts.h"
#include "build/pack_writer.h"
#include "build/tree_walk.h"
#include "build/trusted_files.h"
#include "build/whole_pieces.h"
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

// A tree whose contents are in a stream.
struct ReadTree {
  std::vector<format::InodeRecord> inodes;
  std::vector<Extent> extents;  // in stream order
};

// An image whose manifest is not written yet.
struct BuiltImage {
  std::string manifest;
  BuildResult result;
};

// What a build needs, whatever the layout.
struct Site {
  const std::filesystem::path& rootfs;
  const fetch::Layout& layout;
  const BuildOptions& options;
  BaseImage* base;  // may be null
  unsigned threads;
  BufferPool& buffers;
};

void append_file(const WalkedFile& file, ContentStream& stream,
                 const std::function<void(std::uint64_t)>& on_progress) {
  FileReader reader(file.fd, file.status, file.path);
  while (const std::size_t size = reader.read(stream.space())) {
    stream.append(size);
    if (on_progress) on_progress(stream.size());
  }
}

using IsKnown = decltype(FileVisitor::is_known);

// `apart`: files that are long enough for it have chunks of their own, so that a reader of one file
// fetches little else.
ReadTree read_tree(const Site& site, ContentStream& stream, bool apart, IsKnown is_known = {}) {
  ReadTree tree;
  const format::Metadata* base = site.base != nullptr ? &site.base->metadata() : nullptr;
  const auto on_file = [&](const WalkedFile& file) {
    const auto size = static_cast<std::uint64_t>(file.status.st_size);
    const bool is_apart = apart && size >= kMinChunkSize;
    if (is_apart) stream.end_chunk();
    tree.extents.push_back({file.record, stream.size(), size});
    append_file(file, stream, site.options.on_progress);
    if (is_apart) stream.end_chunk();
  };
  tree.inodes = walk_tree(site.rootfs, base, {.on_file = on_file, .is_known = std::move(is_known)});
  stream.end_chunk();
  return tree;
}

// Gives each file the pieces of chunks that its extent covers. `chunks` are the stream, as whole
// pieces.
void lay_over_chunks(const std::vector<format::ChunkRef>& chunks, ReadTree& tree) {
  auto chunk = chunks.begin();
  std::uint64_t chunk_offset = 0;  // in the stream
  for (const Extent& extent : std::exchange(tree.extents, {})) {
    std::uint64_t at = extent.offset;
    const std::uint64_t end = extent.offset + extent.size;
    while (at < end) {
      while (chunk_offset + chunk->size <= at) chunk_offset += (chunk++)->size;
      format::ChunkRef piece = *chunk;
      piece.offset = at - chunk_offset;
      piece.size = std::min(end, chunk_offset + chunk->size) - at;
      tree.inodes[extent.record].chunks.push_back(piece);
      at += piece.size;
    }
  }
}

void sort_by_number(std::vector<format::InodeRecord>& inodes) {
  std::sort(inodes.begin(), inodes.end(),
            [](const auto& a, const auto& b) { return a.ino < b.ino; });
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

// The metadata of the tree, whose inodes ascend by number: a layer of its own, or one upon those of
// the base. A base that has an equal layer already is what the tree looks like.
Bytes make_metadata(std::vector<format::InodeRecord> inodes,
                    const std::vector<format::VerityRecord>& verity, const format::Metadata* base) {
  std::vector<std::vector<format::InodeRecord>> layers;
  if (base == nullptr) {
    layers.push_back(std::move(inodes));
    return format::write_metadata(std::move(layers), verity);
  }
  for (std::uint32_t layer = 0; layer < base->layer_count(); ++layer)
    layers.push_back(layer_records(*base, layer));
  if (std::find(layers.begin(), layers.end(), inodes) == layers.end())
    layers.insert(layers.begin(), std::move(inodes));

  std::map<format::Digest, format::Digest> all(verity.begin(), verity.end());
  for (std::uint32_t i = 0; i < base->verity_count(); ++i) all.insert(base->verity_at(i));
  return format::write_metadata(std::move(layers), {all.begin(), all.end()});
}

BuiltImage build_chunked(const Site& site) {
  const BuildOptions& options = site.options;
  ChunkWriter writer(site.layout, options.compress, site.threads);
  ContentStream stream(site.buffers, [&](Slice chunk) { writer.add(std::move(chunk)); });
  ReadTree tree = read_tree(site, stream, false);
  const StoredChunks stored = writer.finish();
  lay_over_chunks(whole_pieces(stored.chunks), tree);
  apply_timestamps(options.timestamps.value_or(TimestampRule{Timestamps::kZero}), tree.inodes);
  sort_by_number(tree.inodes);
  if (options.timestamps) count_links(tree.inodes);

  BuiltImage built;
  built.result.inodes = tree.inodes.size();
  built.result.content_bytes = stream.size();
  built.result.chunks = stored.chunks.size();
  built.result.distinct_chunks = stored.verity.size();
  built.result.new_blobs = stored.new_blobs;
  built.result.new_bytes = stored.new_bytes;
  const Bytes metadata = make_metadata(std::move(tree.inodes), stored.verity,
                                       site.base != nullptr ? &site.base->metadata() : nullptr);
  built.manifest = write_chunked_documents(site.layout, metadata, stored.chunks, options.compress);
  return built;
}

std::optional<PackBase> pack_base(BaseImage* base) {
  if (base == nullptr) return std::nullopt;
  return PackBase{base->metadata(),
                  [base](const format::PackedChunk& chunk) { return base->read_stored(chunk); }};
}

BuiltImage build_packed(const Site& site) {
  const BuildOptions& options = site.options;
  PackWriter writer(site.layout,
                    {.level = options.level,
                     .threads = site.threads,
                     .pack_size = options.pack_size,
                     .max_packs = options.max_packs},
                    pack_base(site.base));
  ContentStream stream(site.buffers, [&](Slice chunk) { writer.add(std::move(chunk)); });
  std::optional<TrustedFiles> trusted;
  IsKnown is_known;
  if (options.trust_mtime && site.base != nullptr) {
    trusted.emplace(site.base->metadata(), writer);
    is_known = [&trusted](std::size_t record, const struct stat& status,
                          const format::Inode& base) {
      return trusted->take(record, status, base);
    };
  }
  ReadTree tree = read_tree(site, stream, true, std::move(is_known));
  const PackedStream packed = writer.finish();
  const auto& packs = packed.contents.packs;
  for (std::uint32_t pack = 0; pack < packed.kept_packs; ++pack)
    site.base->require_pack(packs[pack]);

  lay_over_chunks(whole_pieces(packed), tree);
  if (trusted) trusted->give(packed.base_chunks, tree.inodes);
  // The tree is all in one layer.
  std::erase_if(tree.inodes, [](const format::InodeRecord& inode) {
    return inode.type == format::FileType::kWhiteout;
  });
  sort_by_number(tree.inodes);
  apply_timestamps(options.timestamps.value_or(TimestampRule{Timestamps::kKeep}), tree.inodes);
  count_links(tree.inodes);

  BuiltImage built;
  built.result.inodes = tree.inodes.size();
  built.result.content_bytes = stream.size();
  built.result.chunks = packed.chunks.size();
  if (trusted) {
    built.result.trusted_files = trusted->count();
    built.result.chunks += trusted->pieces();
  }
  built.result.distinct_chunks = packed.contents.chunks.size();
  built.result.new_blobs = packed.new_packs;
  built.result.new_bytes = packed.new_bytes;
  built.result.replaced_packs = packed.replaced_packs;
  built.result.moved_bytes = packed.moved_bytes;
  const Bytes metadata = format::write_packed_metadata(std::move(tree.inodes), packed.contents);
  built.manifest = write_packed_documents(site.layout, metadata, packs, options.level > 0);
  return built;
}

// The image to build upon, if there is one.
std::unique_ptr<BaseImage> open_base(const fetch::Layout& layout, const BuildOptions& options) {
  if (options.base_tag.empty()) return nullptr;
  auto base = std::make_unique<BaseImage>(layout, options.base_tag);
  const bool packed = options.layout == ImageLayout::kPacked;
  if (packed == base->is_packed()) return base;
  throw UsageError(base->title() + (packed ? " is chunked, and a packed image can only be built "
                                             "upon a packed one. Convert it first."
                                           : " is packed, and a chunked image can only be built "
                                             "upon a chunked one. Convert it first, or build with "
                                             "--layout packed."));
}

unsigned thread_count(const BuildOptions& options) {
  return options.threads > 0 ? options.threads : std::max(1U, std::thread::hardware_concurrency());
}

}  // namespace

BuildResult build_image(const std::filesystem::path& rootfs, const fetch::Layout& layout,
                        const std::string& tag, const BuildOptions& options) {
  const auto base = open_base(layout, options);
  const unsigned threads = thread_count(options);
  BufferPool buffers(threads + kSpareBuffers, ContentStream::kBufferSize);
  const Site site{rootfs, layout, options, base.get(), threads, buffers};
  auto [manifest, result] =
      options.layout == ImageLayout::kPacked ? build_packed(site) : build_chunked(site);

  result.manifest = tag_image(layout, tag, manifest);
  result.manifest_verity = format::verity_digest(as_bytes(manifest));
  return result;
}

}  // namespace puzzlefs::build
