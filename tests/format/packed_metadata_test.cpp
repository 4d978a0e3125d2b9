// Metadata of version 4: written and read back, and tables that nobody should have written.
#include <capnp/message.h>
#include <capnp/serialize.h>
#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <vector>

#include "../support/metadata_blob.h"
#include "format/chunk_codec.h"
#include "format/error.h"
#include "format/metadata.h"
#include "format/metadata_writer.h"

namespace puzzlefs::format {
namespace {

Digest digest(const std::string& text) {
  return sha256(as_bytes(text));
}

const PackedContents kContents{
    .packs = {{digest("pack 0"), 1000, 300}, {digest("pack 1"), 70'000, 0}},
    .chunks = {{digest("a"), 0, 0, 100, 100},
               {digest("b"), 0, 100, 50, 4000},
               {digest("c"), 1, 60'000, 10'000, 20'000}},
    .verity = {}};

ChunkRef piece(std::uint32_t chunk, std::uint64_t offset, std::uint64_t size) {
  return {kContents.chunks[chunk].digest, offset, size, false, ChunkIndex{chunk}};
}

InodeRecord root(std::vector<DirEntryRecord> entries) {
  InodeRecord record{.ino = kRootInode, .type = FileType::kDirectory, .permissions = 0755};
  record.entries = std::move(entries);
  record.mtime = -1'500'000'000;
  record.link_count = 2;
  return record;
}

InodeRecord file(std::vector<ChunkRef> pieces) {
  InodeRecord record{.ino = InodeNumber{2}, .type = FileType::kRegular, .permissions = 0644};
  record.chunks = std::move(pieces);
  record.mtime = 1'700'000'000'123'456'789;
  record.link_count = 3;
  return record;
}

std::vector<InodeRecord> tree(std::vector<ChunkRef> pieces) {
  return {root({{InodeNumber{2}, "file"}}), file(std::move(pieces))};
}

TEST(PackedMetadata, GivesBackWhatWasWritten) {
  auto contents = kContents;
  contents.verity = {{digest("pack 0"), digest("verity")}};
  const auto records = tree({piece(1, 3990, 10), piece(2, 0, 20'000)});
  const Bytes blob = write_packed_metadata({records}, contents);
  const Metadata metadata(blob);

  EXPECT_EQ(metadata.version(), 4U);
  for (const auto& record : records) EXPECT_EQ(to_record(metadata.get(record.ino)), record);
  EXPECT_EQ(metadata.get(InodeNumber{2}).size(), 20'010U);
  ASSERT_EQ(metadata.pack_count(), 2U);
  ASSERT_EQ(metadata.chunk_count(), 3U);
  for (std::uint32_t i = 0; i < 2; ++i) EXPECT_EQ(metadata.pack(i), contents.packs[i]);
  for (std::uint32_t i = 0; i < 3; ++i)
    EXPECT_EQ(metadata.chunk(ChunkIndex{i}), contents.chunks[i]);
  EXPECT_FALSE(metadata.chunk(ChunkIndex{0}).is_compressed());
  EXPECT_TRUE(metadata.chunk(ChunkIndex{1}).is_compressed());
  EXPECT_EQ(metadata.verity(digest("pack 0")), digest("verity"));
}

TEST(PackedMetadata, HasNoPacksInVersion3) {
  const Bytes blob = write_metadata({{root({})}}, {});
  const Metadata metadata(blob);
  EXPECT_EQ(metadata.version(), 3U);
  EXPECT_EQ(metadata.pack_count(), 0U);
  EXPECT_EQ(metadata.chunk_count(), 0U);
  EXPECT_EQ(metadata.get(kRootInode).mtime(), -1'500'000'000) << "which may have times too";
}

// As the Rust puzzlefs and earlier releases write it.
TEST(PackedMetadata, ReadsInodesWithoutTimesAndLinkCounts) {
  InodeRecord short_record = root({});
  short_record.mtime = 0;
  short_record.link_count = 0;
  const Bytes blob = write_metadata({{short_record}}, {});
  EXPECT_LT(blob.size(), write_metadata({{root({})}}, {}).size());
  const Metadata metadata(blob);
  EXPECT_EQ(metadata.get(kRootInode).mtime(), 0);
  EXPECT_EQ(metadata.get(kRootInode).link_count(), 0U);
}

TEST(PackedMetadata, RefusesPiecesOutsideTheirChunks) {
  for (const ChunkRef& wrong :
       {piece(0, 0, 101), piece(0, 101, 0), piece(0, 100, 1), piece(1, 4000, 1)}) {
    const Bytes blob = write_packed_metadata({tree({wrong})}, kContents);
    EXPECT_THROW(Metadata(blob).get(InodeNumber{2}).chunk(0), CorruptError) << wrong.offset;
  }
  const Bytes whole =
      write_packed_metadata({tree({piece(0, 0, 100), piece(0, 100, 0)})}, kContents);
  EXPECT_EQ(Metadata(whole).get(InodeNumber{2}).chunk(0).size, 100U);
  EXPECT_EQ(Metadata(whole).get(InodeNumber{2}).chunk(1).size, 0U);
}

TEST(PackedMetadata, RefusesPiecesOfChunksThatAreNotThere) {
  for (const std::uint32_t index : {3U, 0xffffffffU}) {
    ChunkRef wrong = piece(0, 0, 1);
    wrong.index = ChunkIndex{index};
    const Bytes blob = write_packed_metadata({tree({wrong})}, kContents);
    EXPECT_THROW(Metadata(blob).get(InodeNumber{2}).chunk(0), CorruptError) << index;
  }
}

// The table with one chunk changed, which must be refused; the others must not.
void expect_refused(const std::function<void(PackedChunk&)>& change, const std::string& what) {
  auto contents = kContents;
  change(contents.chunks[1]);
  const Bytes blob = write_packed_metadata({root({})}, contents);
  const Metadata metadata(blob);
  EXPECT_THROW(metadata.chunk(ChunkIndex{1}), CorruptError) << what;
  EXPECT_EQ(metadata.chunk(ChunkIndex{0}), kContents.chunks[0]) << what;
}

TEST(PackedMetadata, RefusesImpossibleChunks) {
  expect_refused([](PackedChunk& chunk) { chunk.pack = 2; }, "no such pack");
  expect_refused([](PackedChunk& chunk) { chunk.pack = 0xffff; }, "no such pack");
  expect_refused([](PackedChunk& chunk) { chunk.offset = 951; }, "ends beyond its pack");
  expect_refused([](PackedChunk& chunk) { chunk.offset = 1001; }, "begins beyond its pack");
  expect_refused([](PackedChunk& chunk) { chunk.offset = ~std::uint64_t{0}; }, "overflow");
  expect_refused([](PackedChunk& chunk) { chunk.stored_size = 0; }, "nothing stored");
  expect_refused([](PackedChunk& chunk) { chunk.stored_size = chunk.size = 0; }, "empty");
  expect_refused([](PackedChunk& chunk) { chunk.stored_size = 4001; }, "stored larger");
  expect_refused([](PackedChunk& chunk) { chunk.size = kMaxChunkSize + 1; }, "too large");
}

TEST(PackedMetadata, KeepsTheHotPartInsideThePack) {
  auto contents = kContents;
  contents.packs[0].hot_size = 5000;
  const Bytes blob = write_packed_metadata({root({})}, contents);
  EXPECT_EQ(Metadata(blob).pack(0).hot_size, 1000U);
}

// Nothing that reads by index depends on the order: a reader that searches must bear it.
TEST(PackedMetadata, ReadsATableThatIsNotSorted) {
  auto contents = kContents;
  std::swap(contents.chunks[0], contents.chunks[2]);
  const Bytes blob = write_packed_metadata({root({})}, contents);
  const Metadata metadata(blob);
  for (std::uint32_t i = 0; i < 3; ++i)
    EXPECT_EQ(metadata.chunk(ChunkIndex{i}), contents.chunks[i]);
}

TEST(PackedMetadata, RefusesIndicesOutsideItsTables) {
  const Bytes blob = write_packed_metadata({root({})}, kContents);
  const Metadata metadata(blob);
  EXPECT_THROW(metadata.pack(2), CorruptError);
  EXPECT_THROW(metadata.chunk(ChunkIndex{3}), CorruptError);
  EXPECT_THROW(metadata.chunk(kNoChunkIndex), CorruptError);
}

TEST(PackedMetadata, SurvivesEveryFlippedByte) {
  const Bytes good = write_packed_metadata({tree({piece(1, 0, 10), piece(2, 5, 6)})}, kContents);
  int refused = 0;
  for (std::size_t at = 0; at < good.size(); ++at) {
    for (const unsigned flip : {0x01U, 0x04U, 0x80U, 0xffU}) {
      Bytes blob = good;
      blob[at] ^= static_cast<std::byte>(flip);
      try {
        const Metadata metadata(blob);
        for (std::uint32_t i = 0; i < metadata.inode_count(0); ++i) to_record(metadata.inode(0, i));
        for (std::uint32_t i = 0; i < metadata.pack_count(); ++i) metadata.pack(i);
        for (std::uint32_t i = 0; i < metadata.chunk_count(); ++i) metadata.chunk(ChunkIndex{i});
      } catch (const CorruptError&) {
        ++refused;
      }
    }
  }
  EXPECT_GT(refused, 0);
}

}  // namespace
}  // namespace puzzlefs::format
