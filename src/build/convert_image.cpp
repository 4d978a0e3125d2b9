// The road of a conversion: the inodes are read as records, the chunks that they name are read one
// after the other and stored anew, then the records are made to name these.
#include "build/convert_image.h"

#include <algorithm>
#include <thread>
#include <utility>

#include "build/buffer_pool.h"
#include "build/chunk_feed.h"
#include "build/chunk_order.h"
#include "build/chunk_writer.h"
#include "build/image_documents.h"
#include "build/scratch_file.h"
#include "build/stream_chunks.h"
#include "build/tree_records.h"
#include "fetch/blob_store.h"
#include "fetch/outcome.h"
#include "format/chunk_codec.h"
#include "format/error.h"
#include "format/metadata_writer.h"
#include "format/verity.h"

namespace puzzlefs::build {
namespace {

// Chunks that wait for the writer's threads while each has one.
constexpr unsigned kSpareBuffers = 16;

using Inodes = std::vector<format::InodeRecord>;

// An image whose manifest is not written yet.
struct Converted {
  std::string manifest;
  ConvertResult result;
};

// What a conversion needs, whatever the layout.
struct Site {
  fetch::Image& source;
  const fetch::Layout& target;
  const ConvertOptions& options;
  unsigned threads;
  BufferPool& buffers;
};

// Gives all chunks to the writer; returns their bytes.
template <class Writer>
std::uint64_t feed(const Site& site, const ChunkOrder& order, Writer& writer,
                   const std::function<void()>& after_hot) {
  std::size_t count = 0;
  std::uint64_t bytes = 0;
  feed_chunks(site.source.chunks(), order.chunks(), site.buffers, [&](Slice chunk) {
    bytes += chunk.bytes.size();
    writer.add(std::move(chunk));
    if (++count == order.hot_count()) after_hot();
    if (site.options.on_progress) site.options.on_progress(bytes);
  });
  return bytes;
}

// Makes the pieces of all files lie in `stored`, which has the chunks of `order`.
void use_chunks(const ChunkOrder& order, const std::vector<format::ChunkRef>& stored,
                Inodes& tree) {
  for (format::InodeRecord& inode : tree) {
    for (format::ChunkRef& piece : inode.chunks) {
      format::ChunkRef now = stored[order.place(piece)];
      if (piece.offset > now.size || piece.size > now.size - piece.offset) {
        throw CorruptError("The image's metadata is malformed at inode " +
                           std::to_string(format::to_integer(inode.ino)) +
                           ": a piece lies outside its chunk.");
      }
      now.offset = piece.offset;
      now.size = piece.size;
      piece = now;
    }
  }
}

Converted to_chunked(const Site& site, const ChunkOrder& order, Inodes& tree) {
  const bool compress = site.options.compress;
  ChunkWriter writer(site.target, compress, site.threads);
  Converted converted;
  converted.result.chunk_bytes = feed(site, order, writer, [] {});
  const StoredChunks stored = writer.finish();
  use_chunks(order, whole_pieces(stored.chunks), tree);

  converted.result.chunks = stored.verity.size();
  converted.result.new_blobs = stored.new_blobs;
  converted.result.new_bytes = stored.new_bytes;
  ScratchSegments memory(site.target.path());
  const auto metadata = format::write_metadata({format::source_of(tree)}, stored.verity, memory);
  converted.manifest = write_chunked_documents(site.target, metadata, stored.chunks, compress);
  return converted;
}

Converted to_packed(const Site& site, const ChunkOrder& order, Inodes& tree) {
  const ConvertOptions& options = site.options;
  PackWriter writer(
      site.target,
      {.level = options.level,
       .hot_level = order.hot_count() > 0 ? std::optional(options.hot_level) : std::optional<int>(),
       .threads = site.threads,
       .pack_size = options.pack_size,
       .max_packs = options.max_packs},
      options.base);
  Converted converted;
  converted.result.chunk_bytes = feed(site, order, writer, [&writer] { writer.end_hot(); });
  const PackedStream packed = writer.finish();
  use_chunks(order, whole_pieces(packed), tree);

  converted.result.chunks = packed.contents.chunks.size();
  converted.result.new_blobs = packed.new_packs;
  converted.result.new_bytes = packed.new_bytes;
  converted.result.kept_packs = packed.kept_packs;
  converted.result.replaced_packs = packed.replaced_packs;
  converted.result.moved_bytes = packed.moved_bytes;
  ScratchSegments memory(site.target.path());
  const auto metadata =
      format::write_packed_metadata(format::source_of(tree), packed.contents, memory);
  converted.manifest =
      write_packed_documents(site.target, metadata, packed.contents.packs, options.level > 0);
  return converted;
}

// Done first, so that one that cannot be had is missed before all the work.
void copy_config(const Site& site) {
  const auto& config = site.source.manifest().config;
  if (config.digest == format::empty_config().digest) return;  // it is written in any case
  if (config.size > format::kMaxManifestSize) {
    throw CorruptError("The config of " + site.source.name() + " is larger than such may be.");
  }
  const auto blob = fetch::wait_for<fetch::BlobData>([&](fetch::Completion<fetch::BlobData> done) {
    site.source.blobs().read(config, std::move(done));
  });
  site.target.write_blob(config.digest, *blob);
}

// What a manifest says besides its layers stays: the config, annotations, a subject.
std::string keep_the_rest(const Site& site, const std::string& text) {
  format::Manifest manifest = site.source.manifest();
  manifest.layers = format::parse_manifest(as_bytes(text), site.source.name()).layers;
  return format::to_json_text(manifest);
}

unsigned thread_count(const ConvertOptions& options) {
  return options.threads > 0 ? options.threads : std::max(1U, std::thread::hardware_concurrency());
}

}  // namespace

ConvertResult convert_image(fetch::Image& source, const fetch::Layout& target,
                            const std::string& tag, const ConvertOptions& options) {
  Inodes tree = read_tree_records(source.metadata());
  const ChunkOrder order(tree, options.hot);
  std::sort(tree.begin(), tree.end(), [](const auto& a, const auto& b) { return a.ino < b.ino; });
  const std::size_t inodes = tree.size();

  const unsigned threads = thread_count(options);
  BufferPool buffers(threads + kSpareBuffers, format::kMaxChunkSize);
  const Site site{source, target, options, threads, buffers};
  copy_config(site);
  auto [manifest, result] = options.layout == ImageLayout::kPacked ? to_packed(site, order, tree)
                                                                   : to_chunked(site, order, tree);
  manifest = keep_the_rest(site, manifest);
  result.inodes = inodes;
  result.hot_chunks = order.hot_count();
  result.unknown_chunks = order.unknown_count();
  result.manifest = tag_image(target, tag, manifest);
  result.manifest_verity = format::verity_digest(as_bytes(manifest));
  return result;
}

}  // namespace puzzlefs::build
