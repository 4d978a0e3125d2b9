#include "format/metadata_writer.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <functional>
#include <numeric>
#include <span>
#include <utility>

namespace puzzlefs::format {

namespace {

using Place = CapnpMessage::Place;
using StructSize = CapnpMessage::StructSize;

// The structs of schema/metadata.capnp and the places of their fields, as
// `capnp compile -ocapnp schema/metadata.capnp` prints them. Pointers follow a struct's data words.
constexpr StructSize kRootfs{1, 2};        // manifestVersion; metadatas, fsVerityData
constexpr StructSize kPackedRootfs{1, 4};  // …; packs, chunks
constexpr StructSize kInodeVector{0, 1};
constexpr StructSize kInode{3, 2};      // …; mode's object, additional
constexpr StructSize kLongInode{5, 2};  // with mtime, size and nlink
constexpr StructSize kDevice{2, 0};     // major, minor
constexpr StructSize kDir{1, 1};
constexpr StructSize kDirEntry{1, 1};
constexpr StructSize kFileChunk{1, 1};
constexpr StructSize kPackedFileChunk{2, 1};  // its pointer is null
constexpr StructSize kBlobRef{2, 1};
constexpr StructSize kInodeAdditional{0, 2};  // xattrs, symlinkTarget
constexpr StructSize kXattr{0, 2};            // key, val
constexpr StructSize kVerityData{0, 2};       // digest, verity
constexpr StructSize kPack{2, 1};             // size, hotSize; digest
constexpr StructSize kChunk{7, 0};

// What the versions of the format differ in.
struct Form {
  std::uint64_t version = kChunkedVersion;
  StructSize root = kRootfs;
  StructSize inode = kInode;
};

constexpr std::uint32_t kInodeMode = 64;
constexpr std::uint32_t kInodePermissions = 80;
constexpr std::uint32_t kInodeUid = 96;
constexpr std::uint32_t kInodeGid = 128;
constexpr std::uint32_t kInodeNlink = 160;
constexpr std::uint32_t kInodeMtime = 192;
constexpr std::uint32_t kInodeSize = 256;
constexpr std::uint32_t kWordBits = 64;

// After how many inodes, of a few hundred bytes each, the memory of a message is released.
constexpr std::uint32_t kReleaseInterval = 4096;

// Pointer `index` of the struct at `place`.
constexpr Place pointer(Place place, StructSize size, std::uint32_t index = 0) {
  return place + (size.data + index);
}

constexpr Place element(Place list, std::size_t index, StructSize size) {
  return list + static_cast<std::uint32_t>(index) * size.words();
}

// The tag of the `mode` union.
std::uint64_t mode_tag(FileType type) {
  using Mode = schema::Inode::Mode;
  switch (type) {
    case FileType::kFifo:
      return Mode::FIFO;
    case FileType::kCharacterDevice:
      return Mode::CHR;
    case FileType::kDirectory:
      return Mode::DIR;
    case FileType::kBlockDevice:
      return Mode::BLK;
    case FileType::kRegular:
      return Mode::FILE;
    case FileType::kSymlink:
      return Mode::LNK;
    case FileType::kSocket:
      return Mode::SOCK;
    case FileType::kWhiteout:
      return Mode::WHT;
  }
  return Mode::UNKNOWN;
}

void write_directory(CapnpMessage& out, Place mode, const InodeRecord& record) {
  const Place directory = out.add_struct(mode, kDir);
  const Place entries =
      out.add_struct_list(pointer(directory, kDir), record.entries.size(), kDirEntry);
  for (std::size_t i = 0; i < record.entries.size(); ++i) {
    const Place entry = element(entries, i, kDirEntry);
    out.set(entry, 0, 64, to_integer(record.entries[i].ino));
    out.add_data(pointer(entry, kDirEntry), as_bytes(record.entries[i].name));
  }
}

void write_chunks(CapnpMessage& out, Place mode, const InodeRecord& record) {
  const Place list = out.add_struct_list(mode, record.chunks.size(), kFileChunk);
  for (std::size_t i = 0; i < record.chunks.size(); ++i) {
    const ChunkRef& chunk = record.chunks[i];
    const Place piece = element(list, i, kFileChunk);
    const Place blob = out.add_struct(pointer(piece, kFileChunk), kBlobRef);
    out.add_data(pointer(blob, kBlobRef), chunk.blob.bytes());
    out.set(blob, 0, 64, chunk.offset);
    out.set(blob, 64, 1, chunk.compressed ? 1 : 0);
    out.set(piece, 0, 64, chunk.size);
  }
}

void write_device(CapnpMessage& out, Place mode, const DeviceNumber& number) {
  const Place device = out.add_struct(mode, kDevice);
  out.set(device, 0, 64, number.major);
  out.set(device, 64, 64, number.minor);
}

void write_packed_chunks(CapnpMessage& out, Place mode, const InodeRecord& record) {
  const Place list = out.add_struct_list(mode, record.chunks.size(), kPackedFileChunk);
  for (std::size_t i = 0; i < record.chunks.size(); ++i) {
    const ChunkRef& chunk = record.chunks[i];
    const Place piece = element(list, i, kPackedFileChunk);
    out.set(piece, 0, 64, chunk.size);
    out.set(piece, 64, 32, to_integer(chunk.index));
    out.set(piece, 96, 32, chunk.offset);
  }
}

void write_mode(CapnpMessage& out, Place inode, const Form& form, const InodeRecord& record) {
  out.set(inode, kInodeMode, 16, mode_tag(record.type));
  const Place mode = pointer(inode, form.inode, 0);
  if (record.type == FileType::kDirectory) write_directory(out, mode, record);
  if (record.type == FileType::kRegular && form.version == kChunkedVersion)
    write_chunks(out, mode, record);
  if (record.type == FileType::kRegular && form.version == kPackedVersion)
    write_packed_chunks(out, mode, record);
  if (record.type == FileType::kCharacterDevice || record.type == FileType::kBlockDevice)
    write_device(out, mode, record.device);
}

void write_additional(CapnpMessage& out, Place inode, const Form& form, const InodeRecord& record) {
  if (record.xattrs.empty() && record.symlink_target.empty()) return;
  const Place additional = out.add_struct(pointer(inode, form.inode, 1), kInodeAdditional);
  const Place xattrs =
      out.add_struct_list(pointer(additional, kInodeAdditional), record.xattrs.size(), kXattr);
  for (std::size_t i = 0; i < record.xattrs.size(); ++i) {
    const Place xattr = element(xattrs, i, kXattr);
    out.add_data(pointer(xattr, kXattr, 1), as_bytes(record.xattrs[i].value));
    out.add_data(pointer(xattr, kXattr, 0), as_bytes(record.xattrs[i].key));
  }
  if (!record.symlink_target.empty())
    out.add_data(pointer(additional, kInodeAdditional, 1), as_bytes(record.symlink_target));
}

std::uint64_t size_of(const InodeRecord& record) {
  return std::transform_reduce(record.chunks.begin(), record.chunks.end(), std::uint64_t{0},
                               std::plus<>(), [](const ChunkRef& chunk) { return chunk.size; });
}

void write_inode(CapnpMessage& out, Place inode, const Form& form, const InodeRecord& record) {
  out.set(inode, 0, 64, to_integer(record.ino));
  write_mode(out, inode, form, record);
  out.set(inode, kInodeUid, 32, record.uid);
  out.set(inode, kInodeGid, 32, record.gid);
  out.set(inode, kInodePermissions, 16, record.permissions);
  if (form.inode.data == kLongInode.data) {
    out.set(inode, kInodeMtime, 64, static_cast<std::uint64_t>(record.mtime));
    out.set(inode, kInodeNlink, 32, record.link_count);
    out.set(inode, kInodeSize, 64, size_of(record));
  }
  write_additional(out, inode, form, record);
}

void write_layers(CapnpMessage& out, const Form& form, std::span<const LayerSource> layers) {
  out.set(out.root(), 0, 64, form.version);
  const Place vectors =
      out.add_struct_list(pointer(out.root(), form.root, 0), layers.size(), kInodeVector);
  for (std::size_t layer = 0; layer < layers.size(); ++layer) {
    const LayerSource& source = layers[layer];
    const Place vector = element(vectors, layer, kInodeVector);
    const Place inodes =
        out.add_struct_list(pointer(vector, kInodeVector), source.count, form.inode);
    for (std::uint32_t i = 0; i < source.count; ++i) {
      write_inode(out, element(inodes, i, form.inode), form, source.inode(i));
      if ((i + 1) % kReleaseInterval == 0) out.release();
    }
  }
}

void write_verity(CapnpMessage& out, const Form& form, const std::vector<VerityRecord>& verity) {
  const Place records =
      out.add_struct_list(pointer(out.root(), form.root, 1), verity.size(), kVerityData);
  for (std::size_t i = 0; i < verity.size(); ++i) {
    const Place record = element(records, i, kVerityData);
    out.add_data(pointer(record, kVerityData, 0), verity[i].first.bytes());
    out.add_data(pointer(record, kVerityData, 1), verity[i].second.bytes());
  }
}

void write_packs(CapnpMessage& out, const std::vector<Pack>& packs) {
  const Place list =
      out.add_struct_list(pointer(out.root(), kPackedRootfs, 2), packs.size(), kPack);
  for (std::size_t i = 0; i < packs.size(); ++i) {
    const Place pack = element(list, i, kPack);
    out.add_data(pointer(pack, kPack), packs[i].digest.bytes());
    out.set(pack, 0, 64, packs[i].size);
    out.set(pack, 64, 64, packs[i].hot_size);
  }
}

void write_chunk_table(CapnpMessage& out, const std::vector<PackedChunk>& chunks) {
  const Place list =
      out.add_struct_list(pointer(out.root(), kPackedRootfs, 3), chunks.size(), kChunk);
  for (std::size_t i = 0; i < chunks.size(); ++i) {
    const Place place = element(list, i, kChunk);
    std::array<std::uint64_t, Digest::kSize / sizeof(std::uint64_t)> words{};
    std::memcpy(words.data(), chunks[i].digest.bytes().data(), Digest::kSize);
    for (std::uint32_t word = 0; word < words.size(); ++word)
      out.set(place, word * kWordBits, 64, words[word]);
    out.set(place, 256, 64, chunks[i].offset);
    out.set(place, 320, 32, chunks[i].stored_size);
    out.set(place, 352, 32, chunks[i].size);
    out.set(place, 384, 16, chunks[i].pack);
  }
}

bool is_long(const InodeRecord& record) {
  return record.mtime != 0 || record.link_count != 0;
}

}  // namespace

InodeRecord to_record(const Inode& inode) {
  InodeRecord record{inode.number(),
                     inode.type(),
                     inode.uid(),
                     inode.gid(),
                     inode.permissions(),
                     inode.device(),
                     {},
                     {},
                     std::string(inode.symlink_target()),
                     {},
                     inode.mtime(),
                     inode.link_count()};
  for (std::uint32_t i = 0; i < inode.entry_count(); ++i) {
    const DirEntry entry = inode.entry(i);
    record.entries.push_back({entry.ino, std::string(entry.name)});
  }
  for (std::uint32_t i = 0; i < inode.chunk_count(); ++i) record.chunks.push_back(inode.chunk(i));
  for (std::uint32_t i = 0; i < inode.xattr_count(); ++i) {
    const Xattr xattr = inode.xattr(i);
    record.xattrs.push_back({std::string(xattr.key), std::string(as_text(xattr.value))});
  }
  return record;
}

LayerSource source_of(std::vector<InodeRecord>& inodes) {
  return {.count = static_cast<std::uint32_t>(inodes.size()),
          .is_long = std::any_of(inodes.begin(), inodes.end(), is_long),
          .inode = [&inodes](std::uint32_t place) { return std::move(inodes[place]); }};
}

CapnpMessage write_metadata(const std::vector<LayerSource>& layers,
                            const std::vector<VerityRecord>& verity, SegmentMemory& memory) {
  const bool is_extended =
      std::any_of(layers.begin(), layers.end(), [](const auto& layer) { return layer.is_long; });
  const Form form{kChunkedVersion, kRootfs, is_extended ? kLongInode : kInode};
  CapnpMessage out(form.root, memory);
  write_layers(out, form, layers);
  write_verity(out, form, verity);
  return out;
}

CapnpMessage write_packed_metadata(const LayerSource& inodes, const PackedContents& contents,
                                   SegmentMemory& memory) {
  const Form form{kPackedVersion, kPackedRootfs, kLongInode};
  CapnpMessage out(form.root, memory);
  write_layers(out, form, {&inodes, 1});
  write_verity(out, form, contents.verity);
  write_packs(out, contents.packs);
  write_chunk_table(out, contents.chunks);
  return out;
}

}  // namespace puzzlefs::format
