// The road of a build, top to bottom: the calling thread walks the tree, reads and cuts; the
// threads of a writer hash, compress and store, while what is known of each inode goes to a spool;
// then the files are laid over the chunks, and metadata, manifest and tag are written, in this
// order.
#include "build/build_image.h"

#include <algorithm>
#include <map>
#include <memory>
#include <optional>
#include <thread>
#include <unordered_map>
#include <utility>
#include <vector>

#include "build/base_image.h"
#include "build/buffer_pool.h"
#include "build/chunk_writer.h"
#include "build/content_stream.h"
#include "build/fastcdc.h"
#include "build/file_reader.h"
#include "build/image_documents.h"
#include "build/inode_spool.h"
#include "build/pack_writer.h"
#include "build/scratch_file.h"
#include "build/stream_chunks.h"
#include "build/tree_walk.h"
#include "build/trusted_files.h"
#include "format/error.h"
#include "format/metadata_writer.h"
#include "format/oci.h"
#include "format/verity.h"

namespace puzzlefs::build {
namespace {

// Buffers that wait or are filled while each thread holds one.
constexpr unsigned kSpareBuffers = 4;

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

  const format::Metadata* base_metadata() const { return base ? &base->metadata() : nullptr; }
};

void append_file(const WalkedFile& file, ContentStream& stream,
                 const std::function<void(std::uint64_t)>& on_progress) {
  FileReader reader(file.fd, file.status, file.path);
  while (const std::size_t size = reader.read(stream.space())) {
    stream.append(size);
    if (on_progress) on_progress(stream.size());
  }
}

// A tree whose contents went into a stream.
struct ReadTree {
  InodeSpool inodes;
  std::uint64_t content_bytes = 0;
  std::uint64_t trusted_files = 0;
  std::uint64_t trusted_pieces = 0;  // of these files
  // How many names more than one an inode has, of those which have.
  std::unordered_map<format::InodeNumber, std::uint32_t> more_links = {};
};

// Takes the tree that is walked into a stream and a spool.
class TreeReader final : public TreeVisitor {
 public:
  // `trusted` may be null.
  TreeReader(const Site& site, ContentStream& stream, TrustedFiles* trusted)
      : site_(site),
        stream_(stream),
        trusted_(trusted),
        is_packed_(site.options.layout == ImageLayout::kPacked),
        tree_{InodeSpool(site.layout.path())} {}

  ReadTree read() {
    walk_tree(site_.rootfs, site_.base_metadata(), *this);
    stream_.end_chunk();
    tree_.content_bytes = stream_.size();
    if (trusted_ != nullptr) {
      tree_.trusted_files = trusted_->count();
      tree_.trusted_pieces = trusted_->pieces();
    }
    tree_.inodes.sort();
    return std::move(tree_);
  }

 private:
  bool is_known(const struct stat& status, format::InodeNumber number) override {
    if (trusted_ == nullptr) return false;
    auto pieces = trusted_->take(status, number);
    if (pieces) pieces_ = *std::move(pieces);
    return pieces.has_value();
  }

  void on_file(const WalkedFile& file) override {
    const auto size = static_cast<std::uint64_t>(file.status.st_size);
    // A reader of one packed file then fetches little else.
    const bool is_apart = is_packed_ && size >= kMinChunkSize;
    if (is_apart) stream_.end_chunk();
    contents_ = {stream_.size(), size};
    append_file(file, stream_, site_.options.on_progress);
    if (is_apart) stream_.end_chunk();
  }

  void on_inode(format::InodeRecord inode) override {
    // A packed tree is all in one layer.
    if (is_packed_ && inode.type == format::FileType::kWhiteout) return;
    inode.chunks = std::exchange(pieces_, {});
    tree_.inodes.add({std::move(inode), std::exchange(contents_, {})});
  }

  void on_link(format::InodeNumber number) override { ++tree_.more_links[number]; }

  const Site& site_;
  ContentStream& stream_;
  TrustedFiles* const trusted_;
  const bool is_packed_;
  ReadTree tree_;
  // Of the file whose inode comes next.
  Extent contents_;
  std::vector<format::ChunkRef> pieces_;
};

// What an image records of the inodes of a tree besides what the walk has seen.
struct Recording {
  const StreamChunks& chunks;
  // Where the chunks of the base are, which pieces of trusted files name.
  const std::vector<format::ChunkIndex>& base_chunks;
  TimestampRule timestamps;
  bool records_links = false;
};

format::InodeRecord finish_inode(ReadTree& tree, std::uint32_t place, const Recording& recording) {
  auto [record, contents] = tree.inodes.get(place);
  for (format::ChunkRef& piece : record.chunks)
    piece.index = recording.base_chunks[format::to_integer(piece.index)];
  if (contents.size > 0) record.chunks = recording.chunks.pieces(contents.offset, contents.size);
  record.mtime = recorded_time(recording.timestamps, record.mtime);
  const auto links = tree.more_links.find(record.ino);
  if (links != tree.more_links.end()) record.link_count += links->second;
  if (!recording.records_links) record.link_count = 0;
  return record;
}

// `recording` and what it refers to must outlive the source.
format::LayerSource source_of(ReadTree& tree, const Recording& recording) {
  return {.count = tree.inodes.size(),
          .is_long = recording.records_links,
          .inode = [&](std::uint32_t place) { return finish_inode(tree, place, recording); }};
}

format::LayerSource source_of(const format::Metadata& metadata, std::uint32_t layer) {
  const auto record = [&metadata, layer](std::uint32_t place) {
    return format::to_record(metadata.inode(layer, place));
  };
  const std::uint32_t count = metadata.inode_count(layer);
  bool is_long = false;
  for (std::uint32_t place = 0; place < count && !is_long; ++place) {
    const format::Inode inode = metadata.inode(layer, place);
    is_long = inode.mtime() != 0 || inode.link_count() != 0;
  }
  return {.count = count, .is_long = is_long, .inode = record};
}

bool are_equal(const format::LayerSource& a, const format::LayerSource& b) {
  if (a.count != b.count) return false;
  for (std::uint32_t place = 0; place < a.count; ++place)
    if (a.inode(place) != b.inode(place)) return false;
  return true;
}

// The layers of an image of the tree: one of its own, upon those of the base. A base that has an
// equal layer already is what the tree looks like.
std::vector<format::LayerSource> layers_upon(const format::Metadata* base,
                                             format::LayerSource tree) {
  std::vector<format::LayerSource> layers;
  for (std::uint32_t layer = 0; base != nullptr && layer < base->layer_count(); ++layer)
    layers.push_back(source_of(*base, layer));
  const bool is_new = std::none_of(layers.begin(), layers.end(),
                                   [&tree](const auto& layer) { return are_equal(layer, tree); });
  if (is_new) layers.insert(layers.begin(), std::move(tree));
  return layers;
}

// With those of the base.
std::vector<format::VerityRecord> all_verity(const std::vector<format::VerityRecord>& verity,
                                             const format::Metadata* base) {
  if (base == nullptr) return verity;
  std::map<format::Digest, format::Digest> all(verity.begin(), verity.end());
  for (std::uint32_t i = 0; i < base->verity_count(); ++i) all.insert(base->verity_at(i));
  return {all.begin(), all.end()};
}

BufferPool make_buffers(const Site& site) {
  return {site.threads + kSpareBuffers, ContentStream::kBufferSize};
}

std::pair<ReadTree, StoredChunks> store_chunked(const Site& site) {
  BufferPool buffers = make_buffers(site);
  ChunkWriter writer(site.layout, site.options.compress, site.threads);
  ContentStream stream(buffers, [&](Slice chunk) { writer.add(std::move(chunk)); });
  ReadTree tree = TreeReader(site, stream, nullptr).read();
  return {std::move(tree), writer.finish()};
}

BuiltImage build_chunked(const Site& site) {
  const BuildOptions& options = site.options;
  auto [tree, stored] = store_chunked(site);
  const StreamChunks chunks(whole_pieces(stored.chunks));
  const std::vector<format::ChunkIndex> base_chunks;  // no file was trusted
  const Recording recording{
      .chunks = chunks,
      .base_chunks = base_chunks,
      .timestamps = options.timestamps.value_or(TimestampRule{Timestamps::kZero}),
      .records_links = options.timestamps.has_value()};
  ScratchSegments memory(site.layout.path());
  const auto metadata =
      format::write_metadata(layers_upon(site.base_metadata(), source_of(tree, recording)),
                             all_verity(stored.verity, site.base_metadata()), memory);

  BuiltImage built;
  built.result.inodes = tree.inodes.size();
  built.result.content_bytes = tree.content_bytes;
  built.result.chunks = stored.chunks.size();
  built.result.distinct_chunks = stored.verity.size();
  built.result.new_blobs = stored.new_blobs;
  built.result.new_bytes = stored.new_bytes;
  built.manifest = write_chunked_documents(site.layout, metadata, stored.chunks, options.compress);
  return built;
}

std::optional<PackBase> pack_base(BaseImage* base) {
  if (base == nullptr) return std::nullopt;
  return PackBase{base->metadata(),
                  [base](const format::PackedChunk& chunk) { return base->read_stored(chunk); }};
}

std::pair<ReadTree, PackedStream> store_packed(const Site& site) {
  const BuildOptions& options = site.options;
  BufferPool buffers = make_buffers(site);
  PackWriter writer(site.layout,
                    {.level = options.level,
                     .threads = site.threads,
                     .pack_size = options.pack_size,
                     .max_packs = options.max_packs},
                    pack_base(site.base));
  ContentStream stream(buffers, [&](Slice chunk) { writer.add(std::move(chunk)); });
  std::optional<TrustedFiles> trusted;
  if (options.trust_mtime && site.base != nullptr) trusted.emplace(site.base->metadata(), writer);
  ReadTree tree = TreeReader(site, stream, trusted ? &*trusted : nullptr).read();
  return {std::move(tree), writer.finish()};
}

BuiltImage build_packed(const Site& site) {
  const BuildOptions& options = site.options;
  auto [tree, packed] = store_packed(site);
  const auto& packs = packed.contents.packs;
  for (std::uint32_t pack = 0; pack < packed.kept_packs; ++pack)
    site.base->require_pack(packs[pack]);

  const StreamChunks chunks(whole_pieces(packed));
  const Recording recording{
      .chunks = chunks,
      .base_chunks = packed.base_chunks,
      .timestamps = options.timestamps.value_or(TimestampRule{Timestamps::kKeep}),
      .records_links = true};
  ScratchSegments memory(site.layout.path());
  const auto metadata =
      format::write_packed_metadata(source_of(tree, recording), packed.contents, memory);

  BuiltImage built;
  built.result.inodes = tree.inodes.size();
  built.result.content_bytes = tree.content_bytes;
  built.result.trusted_files = tree.trusted_files;
  built.result.chunks = packed.chunks.size() + tree.trusted_pieces;
  built.result.distinct_chunks = packed.contents.chunks.size();
  built.result.new_blobs = packed.new_packs;
  built.result.new_bytes = packed.new_bytes;
  built.result.replaced_packs = packed.replaced_packs;
  built.result.moved_bytes = packed.moved_bytes;
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
  const Site site{rootfs, layout, options, base.get(), thread_count(options)};
  auto [manifest, result] =
      options.layout == ImageLayout::kPacked ? build_packed(site) : build_chunked(site);

  result.manifest = tag_image(layout, tag, manifest);
  result.manifest_verity = format::verity_digest(as_bytes(manifest));
  return result;
}

}  // namespace puzzlefs::build
