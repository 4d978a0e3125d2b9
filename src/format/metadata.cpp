#include "format/metadata.h"

#include <kj/exception.h>

#include <algorithm>
#include <array>
#include <bit>
#include <limits>
#include <string>

#include "format/chunk_codec.h"
#include "format/error.h"

namespace puzzlefs::format {

namespace {

static_assert(std::endian::native == std::endian::little,
              "digests of chunks are little-endian words");

// More deltas on one another than anybody stacks; each is a search at every lookup.
constexpr std::uint32_t kMaxLayers = 1024;

// An index of a pack has 16 bits; images of ours have at most 256.
constexpr std::uint32_t kMaxPacks = 1U << 16;

// Far deeper than any pointer path of the schema, small enough for any stack.
constexpr int kNestingLimit = 16;

ByteView as_view(capnp::Data::Reader data) {
  return std::as_bytes(std::span(data.begin(), data.size()));
}

std::string place(std::string_view text) {
  return std::string(text);
}
std::string place(std::uint64_t inode) {
  return "inode " + std::to_string(inode);
}

[[noreturn]] void fail_at(const std::string& where, std::string_view what) {
  throw CorruptError("The image's metadata is malformed at " + where + ": " + std::string(what) +
                     ".");
}

// Runs `read` and gives Cap'n Proto's complaints about malformed pointers as ours. If what was read
// could not be had, that is the complaint, whatever came of it. `where` is an inode's number or a
// text, made into words only when needed.
template <class Where, class Read>
auto read_checked(const BlobWatch& watch, const Where& where, Read&& read) {
  for (;;) {
    const Look look(watch);
    try {
      const auto result = read();
      if (look.was_right()) return result;
    } catch (const CorruptError&) {
      if (look.was_right()) throw;
    } catch (const kj::Exception& error) {
      if (look.was_right()) fail_at(place(where), error.getDescription().cStr());
    }
  }
}

// Looks at every page, so that one that cannot be had is noticed now and not by who uses the view.
void touch(ByteView bytes) {
  constexpr std::size_t kPageSize = 4096;
  const volatile std::byte* const start = bytes.data();
  for (std::size_t i = 0; i < bytes.size(); i += kPageSize) static_cast<void>(start[i]);
  if (!bytes.empty()) static_cast<void>(start[bytes.size() - 1]);
}

bool is_valid_name(std::string_view name) {
  return !name.empty() && name.size() <= kMaxNameSize && name != "." && name != ".." &&
         name.find_first_of(std::string_view("/\0", 2)) == std::string_view::npos;
}

template <class List>
auto element(const List& list, std::uint32_t index) {
  if (index >= list.size()) throw CorruptError("An index lies outside a list of the metadata.");
  return list[index];
}

// The first position in [0, size) whose `key` is not less than `wanted`.
template <class Key, class Value>
std::uint32_t lower_bound(std::uint32_t size, const Value& wanted, Key&& key) {
  std::uint32_t low = 0;
  std::uint32_t high = size;
  while (low < high) {
    const std::uint32_t middle = low + (high - low) / 2;
    if (key(middle) < wanted)
      low = middle + 1;
    else
      high = middle;
  }
  return low;
}

// The same of numbers, of which few are left out: it begins where the one that is wanted is if none
// before it is, and goes back from there in growing steps. A search from the middle would touch a
// page all over the metadata at every step.
template <class Key>
std::uint32_t lower_bound_of_numbers(std::uint32_t size, std::uint64_t wanted, Key&& key) {
  if (size == 0) return 0;
  const std::uint64_t first = key(0);
  if (wanted <= first) return 0;
  std::uint32_t low = 1;
  std::uint32_t high = size;
  auto place = static_cast<std::uint32_t>(std::min<std::uint64_t>(wanted - first, size - 1));
  for (std::uint64_t step = 1; low < high; step *= 2) {
    if (key(place) < wanted)
      low = place + 1;
    else
      high = place;
    const auto middle = low + (high - low) / 2;
    place =
        std::max(middle, high - static_cast<std::uint32_t>(std::min<std::uint64_t>(step, high)));
  }
  return low;
}

}  // namespace

template <class Read>
auto Inode::checked(Read&& read) const {
  return read_checked(metadata_->watch_, reader_.getIno(), std::forward<Read>(read));
}

void Inode::fail(std::string_view what) const {
  fail_at(place(reader_.getIno()), what);
}

std::uint32_t Inode::bounded(std::uint32_t count) const {
  if (count > metadata_->max_elements())
    fail("a list claims more elements than the metadata has room for");
  return count;
}

InodeNumber Inode::number() const {
  return checked([&] { return InodeNumber{reader_.getIno()}; });
}

std::uint32_t Inode::uid() const {
  return checked([&] { return reader_.getUid(); });
}

std::uint32_t Inode::gid() const {
  return checked([&] { return reader_.getGid(); });
}

std::uint16_t Inode::permissions() const {
  return checked([&] { return static_cast<std::uint16_t>(reader_.getPermissions() & 07777); });
}

FileType Inode::type() const {
  using Mode = schema::Inode::Mode;
  switch (checked([&] { return reader_.getMode().which(); })) {
    case Mode::FIFO:
      return FileType::kFifo;
    case Mode::CHR:
      return FileType::kCharacterDevice;
    case Mode::DIR:
      return FileType::kDirectory;
    case Mode::BLK:
      return FileType::kBlockDevice;
    case Mode::FILE:
      return FileType::kRegular;
    case Mode::LNK:
      return FileType::kSymlink;
    case Mode::SOCK:
      return FileType::kSocket;
    case Mode::WHT:
      return FileType::kWhiteout;
    default:
      fail("it has an unknown file type");
  }
}

DeviceNumber Inode::device() const {
  const auto narrow = [this](std::uint64_t value) {
    if (value > std::numeric_limits<std::uint32_t>::max()) fail("its device number is too large");
    return static_cast<std::uint32_t>(value);
  };
  return checked([&]() -> DeviceNumber {
    const auto mode = reader_.getMode();
    if (mode.isChr()) return {narrow(mode.getChr().getMajor()), narrow(mode.getChr().getMinor())};
    if (mode.isBlk()) return {narrow(mode.getBlk().getMajor()), narrow(mode.getBlk().getMinor())};
    return {};
  });
}

std::uint32_t Inode::entry_count() const {
  return checked([&]() -> std::uint32_t {
    const auto mode = reader_.getMode();
    return mode.isDir() ? bounded(mode.getDir().getEntries().size()) : 0;
  });
}

DirEntry Inode::entry(std::uint32_t index) const {
  return checked([&]() -> DirEntry {
    const auto entry = element(reader_.getMode().getDir().getEntries(), index);
    const auto name = as_text(as_view(entry.getName()));
    if (!is_valid_name(name)) fail("a directory entry has an impossible name");
    return {InodeNumber{entry.getIno()}, name};
  });
}

std::uint32_t Inode::chunk_count() const {
  return checked([&]() -> std::uint32_t {
    const auto mode = reader_.getMode();
    return mode.isFile() ? bounded(mode.getFile().size()) : 0;
  });
}

ChunkRef Inode::chunk(std::uint32_t index) const {
  return checked([&]() -> ChunkRef {
    const auto piece = element(reader_.getMode().getFile(), index);
    if (metadata_->version() == kPackedVersion) return packed_chunk(piece);
    const auto blob = piece.getBlob();
    const ChunkRef ref{Digest::from_bytes(as_view(blob.getDigest())), blob.getOffset(),
                       piece.getLen(), blob.getCompressed(), kNoChunkIndex};
    if (ref.offset > kMaxChunkSize || ref.size > kMaxChunkSize - ref.offset)
      fail("a piece lies outside any possible chunk");
    return ref;
  });
}

ChunkRef Inode::packed_chunk(schema::FileChunk::Reader piece) const {
  const ChunkIndex index{piece.getChunk()};
  const auto chunk = metadata_->chunk(index);
  const ChunkRef ref{chunk.digest, piece.getOffset(), piece.getLen(), false, index};
  if (ref.offset > chunk.size || ref.size > chunk.size - ref.offset)
    fail("a piece lies outside its chunk");
  return ref;
}

std::int64_t Inode::mtime() const {
  return checked([&] { return reader_.getMtime(); });
}

std::uint32_t Inode::link_count() const {
  return checked([&] { return reader_.getNlink(); });
}

std::uint64_t Inode::size() const {
  if (type() == FileType::kSymlink) return symlink_target().size();
  return checked([&]() -> std::uint64_t {
    const auto mode = reader_.getMode();
    if (!mode.isFile()) return 0;
    if (metadata_->version() == kPackedVersion) return reader_.getSize();
    const auto pieces = mode.getFile();
    bounded(pieces.size());
    std::uint64_t size = 0;  // cannot overflow: a list has at most 2^29 elements
    for (const auto piece : pieces) {
      if (piece.getLen() > kMaxChunkSize) fail("a piece lies outside any possible chunk");
      size += piece.getLen();
    }
    return size;
  });
}

std::string_view Inode::symlink_target() const {
  return checked([&]() -> std::string_view {
    if (!reader_.getMode().isLnk()) return {};
    const auto target = as_text(as_view(reader_.getAdditional().getSymlinkTarget()));
    if (target.empty() || target.size() > kMaxSymlinkSize ||
        target.find('\0') != std::string_view::npos)
      fail("its symlink target is impossible");
    return target;
  });
}

std::uint32_t Inode::xattr_count() const {
  return checked([&] { return bounded(reader_.getAdditional().getXattrs().size()); });
}

Xattr Inode::xattr(std::uint32_t index) const {
  return checked([&]() -> Xattr {
    const auto xattr = element(reader_.getAdditional().getXattrs(), index);
    const auto key = as_text(as_view(xattr.getKey()));
    if (key.empty() || key.size() > kMaxNameSize || key.find('\0') != std::string_view::npos)
      fail("an extended attribute has an impossible name");
    const auto value = as_view(xattr.getVal());
    if (metadata_->watch_.state != nullptr) touch(value);
    return {key, value};
  });
}

template <class Where, class Read>
auto Metadata::checked(const Where& where, Read&& read) const {
  return read_checked(watch_, where, std::forward<Read>(read));
}

bool Look::was_right() const {
  if (watch_->state == nullptr) return true;
  const auto is_odd = [](std::uint64_t state) { return (state & 1) != 0; };
  const auto now = state();
  if (is_odd(now)) watch_->on_damage();
  return now == before_ && !is_odd(now);
}

/// What was read before must not be read afterwards: hence a fence, which g++ does not have for its
/// thread sanitizer.
std::uint64_t Look::state() const {
  if (watch_->state == nullptr) return 0;
#ifdef __SANITIZE_THREAD__
  std::atomic_signal_fence(std::memory_order_acquire);
#else
  std::atomic_thread_fence(std::memory_order_acquire);
#endif
  return watch_->state->load();
}

Metadata::Metadata(ByteView blob, BlobWatch watch) : blob_(blob), watch_(std::move(watch)) {
  if (blob.size() % sizeof(capnp::word) != 0 || blob.empty())
    throw CorruptError("The image's metadata is not a Cap'n Proto message.");
  rootfs_ = checked("its root", [&] {
    capnp::ReaderOptions options;
    // A mount reads the message again and again for as long as it lives, so that a limit on the sum
    // would end it. Every access is bounded by itself instead.
    options.traversalLimitInWords = std::numeric_limits<std::uint64_t>::max();
    options.nestingLimit = kNestingLimit;
    message_ = std::make_unique<capnp::FlatArrayMessageReader>(
        kj::arrayPtr(reinterpret_cast<const capnp::word*>(blob.data()),
                     blob.size() / sizeof(capnp::word)),
        options);
    const schema::Rootfs::Reader root = message_->getRoot<schema::Rootfs>();
    version_ = root.getManifestVersion();
    if (version_ != kChunkedVersion && version_ != kPackedVersion)
      throw CorruptError("The image has metadata version " + std::to_string(version_) +
                         "; this program reads versions 3 and 4.");
    if (root.getMetadatas().size() == 0) fail_at("its root", "it has no layer");
    if (root.getMetadatas().size() > kMaxLayers) fail_at("its root", "it has too many layers");
    layers_.clear();
    for (const auto& layer : root.getMetadatas()) {
      layers_.push_back(layer.getInodes());
      if (layers_.back().size() > max_elements()) fail_at("a layer", "it claims too many inodes");
    }
    return root;
  });
}

// Every element of a list of ours takes at least one word, but Cap'n Proto accepts elements of no
// size at all, whose number nothing bounds.
std::uint32_t Metadata::max_elements() const {
  return static_cast<std::uint32_t>(std::min<std::size_t>(
      blob_.size() / sizeof(capnp::word), std::numeric_limits<std::uint32_t>::max()));
}

std::optional<Inode> Metadata::find_in_layer(std::uint32_t layer, InodeNumber number) const {
  const std::uint64_t wanted = to_integer(number);
  return checked(wanted, [&]() -> std::optional<Inode> {
    const auto& inodes = layers_.at(layer);
    const auto index = lower_bound_of_numbers(inodes.size(), wanted,
                                              [&](std::uint32_t i) { return inodes[i].getIno(); });
    if (index == inodes.size() || inodes[index].getIno() != wanted) return std::nullopt;
    // The Rust puzzlefs writes the whiteout of a deleted name beside the inode that another name
    // still has.
    const bool deleted = inodes[index].getMode().isWht();
    const bool twice = index + 1 < inodes.size() && inodes[index + 1].getIno() == wanted;
    return view(inodes[deleted && twice ? index + 1 : index]);
  });
}

std::optional<Inode> Metadata::find(InodeNumber number) const {
  const std::uint32_t layers = layer_count();
  for (std::uint32_t layer = 0; layer < layers; ++layer) {
    const auto inode = find_in_layer(layer, number);
    if (!inode) continue;
    return inode->type() == FileType::kWhiteout ? std::nullopt : inode;
  }
  return std::nullopt;
}

Inode Metadata::get(InodeNumber number) const {
  const auto inode = find(number);
  if (!inode) throw CorruptError("The image's metadata has no " + place(to_integer(number)) + ".");
  return *inode;
}

std::uint32_t Metadata::layer_count() const {
  return static_cast<std::uint32_t>(layers_.size());
}

std::uint32_t Metadata::inode_count(std::uint32_t layer) const {
  return layers_.at(layer).size();
}

Inode Metadata::inode(std::uint32_t layer, std::uint32_t index) const {
  return checked("a layer", [&] { return view(element(layers_.at(layer), index)); });
}

std::uint32_t Metadata::pack_count() const {
  return checked("its packs", [&] {
    const std::uint32_t count = rootfs_.getPacks().size();
    if (count > kMaxPacks) fail_at("its packs", "it has too many");
    return count;
  });
}

Pack Metadata::pack(std::uint32_t index) const {
  return checked("its packs", [&]() -> Pack {
    const auto pack = element(rootfs_.getPacks(), index);
    return {Digest::from_bytes(as_view(pack.getDigest())), pack.getSize(),
            std::min(pack.getHotSize(), pack.getSize())};
  });
}

std::uint32_t Metadata::chunk_count() const {
  return checked("its chunks", [&] {
    const std::uint32_t count = rootfs_.getChunks().size();
    if (count > max_elements()) fail_at("its chunks", "it claims more than it has room for");
    return count;
  });
}

PackedChunk Metadata::chunk(ChunkIndex index) const {
  return checked("its chunks", [&]() -> PackedChunk {
    const auto chunk = element(rootfs_.getChunks(), to_integer(index));
    const std::array words{chunk.getDigest0(), chunk.getDigest1(), chunk.getDigest2(),
                           chunk.getDigest3()};
    const PackedChunk result{Digest::from_bytes(std::as_bytes(std::span(words))), chunk.getPack(),
                             chunk.getOffset(), chunk.getStoredSize(), chunk.getSize()};
    const bool fits =
        result.stored_size > 0 && result.stored_size <= result.size && result.size <= kMaxChunkSize;
    const auto pack_size = element(rootfs_.getPacks(), result.pack).getSize();
    if (!fits || result.offset > pack_size || result.stored_size > pack_size - result.offset)
      fail_at("its chunks", "one has an impossible size or lies outside its pack");
    return result;
  });
}

std::uint32_t Metadata::verity_count() const {
  return checked("its fs-verity data", [&] {
    const std::uint32_t count = rootfs_.getFsVerityData().size();
    if (count > max_elements()) fail_at("its fs-verity data", "it claims too many records");
    return count;
  });
}

std::pair<Digest, Digest> Metadata::verity_at(std::uint32_t index) const {
  return checked("its fs-verity data", [&] {
    const auto record = element(rootfs_.getFsVerityData(), index);
    return std::pair(Digest::from_bytes(as_view(record.getDigest())),
                     Digest::from_bytes(as_view(record.getVerity())));
  });
}

std::optional<Digest> Metadata::verity(const Digest& chunk) const {
  const std::uint32_t count = verity_count();
  const auto index = lower_bound(count, chunk, [&](std::uint32_t i) { return verity_at(i).first; });
  if (index == count) return std::nullopt;
  const auto [digest, verity] = verity_at(index);
  return digest == chunk ? std::optional(verity) : std::nullopt;
}

}  // namespace puzzlefs::format
