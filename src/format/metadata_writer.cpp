#include "format/metadata_writer.h"

#include <capnp/message.h>

namespace puzzlefs::format {

namespace {

constexpr std::uint64_t kManifestVersion = 3;

kj::ArrayPtr<const kj::byte> as_data(ByteView bytes) {
  return {reinterpret_cast<const kj::byte*>(bytes.data()), bytes.size()};
}

kj::ArrayPtr<const kj::byte> as_data(std::string_view text) {
  return as_data(as_bytes(text));
}

unsigned size_of(std::size_t count) {
  return static_cast<unsigned>(count);
}

void write_directory(schema::Dir::Builder out, const InodeRecord& record) {
  auto entries = out.initEntries(size_of(record.entries.size()));
  for (unsigned i = 0; i < entries.size(); ++i) {
    entries[i].setIno(to_integer(record.entries[i].ino));
    entries[i].setName(as_data(record.entries[i].name));
  }
}

void write_chunks(capnp::List<schema::FileChunk>::Builder out, const InodeRecord& record) {
  for (unsigned i = 0; i < out.size(); ++i) {
    const ChunkRef& chunk = record.chunks[i];
    auto blob = out[i].initBlob();
    blob.setDigest(as_data(chunk.blob.bytes()));
    blob.setOffset(chunk.offset);
    blob.setCompressed(chunk.compressed);
    out[i].setLen(chunk.size);
  }
}

template <class Builder>
void write_device(Builder out, const DeviceNumber& device) {
  out.setMajor(device.major);
  out.setMinor(device.minor);
}

void write_mode(schema::Inode::Mode::Builder out, const InodeRecord& record) {
  switch (record.type) {
    case FileType::kFifo:
      return out.setFifo();
    case FileType::kCharacterDevice:
      return write_device(out.initChr(), record.device);
    case FileType::kDirectory:
      return write_directory(out.initDir(), record);
    case FileType::kBlockDevice:
      return write_device(out.initBlk(), record.device);
    case FileType::kRegular:
      return write_chunks(out.initFile(size_of(record.chunks.size())), record);
    case FileType::kSymlink:
      return out.setLnk();
    case FileType::kSocket:
      return out.setSock();
    case FileType::kWhiteout:
      return out.setWht();
  }
}

void write_additional(schema::Inode::Builder out, const InodeRecord& record) {
  if (record.xattrs.empty() && record.symlink_target.empty()) return;
  auto additional = out.initAdditional();
  auto xattrs = additional.initXattrs(size_of(record.xattrs.size()));
  for (unsigned i = 0; i < xattrs.size(); ++i) {
    xattrs[i].setVal(as_data(record.xattrs[i].value));
    xattrs[i].setKey(as_data(record.xattrs[i].key));
  }
  if (!record.symlink_target.empty()) additional.setSymlinkTarget(as_data(record.symlink_target));
}

void write_inode(schema::Inode::Builder out, const InodeRecord& record) {
  out.setIno(to_integer(record.ino));
  write_mode(out.getMode(), record);
  out.setUid(record.uid);
  out.setGid(record.gid);
  out.setPermissions(record.permissions);
  write_additional(out, record);
}

// The standard stream framing: number of segments less one, their sizes in words, padding to a
// word, the segments.
Bytes to_bytes(capnp::MessageBuilder& message) {
  const auto segments = message.getSegmentsForOutput();
  Bytes out(capnp::computeSerializedSizeInWords(segments) * sizeof(capnp::word));
  kj::ArrayOutputStream stream({reinterpret_cast<kj::byte*>(out.data()), out.size()});
  capnp::writeMessage(stream, segments);
  return out;
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
                     {}};
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

Bytes write_metadata(const std::vector<std::vector<InodeRecord>>& layers,
                     const std::vector<VerityRecord>& verity) {
  capnp::MallocMessageBuilder message;
  auto rootfs = message.initRoot<schema::Rootfs>();
  auto metadatas = rootfs.initMetadatas(size_of(layers.size()));
  for (unsigned layer = 0; layer < metadatas.size(); ++layer) {
    auto inodes = metadatas[layer].initInodes(size_of(layers[layer].size()));
    for (unsigned i = 0; i < inodes.size(); ++i) write_inode(inodes[i], layers[layer][i]);
  }
  auto records = rootfs.initFsVerityData(size_of(verity.size()));
  for (unsigned i = 0; i < records.size(); ++i) {
    records[i].setDigest(as_data(verity[i].first.bytes()));
    records[i].setVerity(as_data(verity[i].second.bytes()));
  }
  rootfs.setManifestVersion(kManifestVersion);
  return to_bytes(message);
}

}  // namespace puzzlefs::format
