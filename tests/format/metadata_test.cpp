// Metadata written and read back, and metadata that nobody should have written.
#include "format/metadata.h"

#include <capnp/message.h>
#include <capnp/serialize.h>
#include <gtest/gtest.h>
#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <functional>
#include <limits>
#include <set>
#include <span>
#include <vector>

#include "../support/metadata_blob.h"
#include "format/chunk_codec.h"
#include "format/error.h"
#include "format/metadata_writer.h"

namespace puzzlefs::format {
namespace {

const Digest kChunk = sha256(as_bytes("chunk"));

InodeRecord directory(std::uint64_t ino, std::vector<DirEntryRecord> entries) {
  InodeRecord record{.ino = InodeNumber{ino}, .type = FileType::kDirectory, .permissions = 0755};
  record.entries = std::move(entries);
  return record;
}

InodeRecord file(std::uint64_t ino, std::vector<ChunkRef> chunks) {
  InodeRecord record{.ino = InodeNumber{ino}, .type = FileType::kRegular, .permissions = 0644};
  record.chunks = std::move(chunks);
  return record;
}

InodeRecord whiteout(std::uint64_t ino) {
  return {.ino = InodeNumber{ino}, .type = FileType::kWhiteout, .permissions = 0644};
}

// A message made with Cap'n Proto itself, for what the writer would never write.
Bytes hostile(const std::function<void(schema::Rootfs::Builder)>& fill) {
  capnp::MallocMessageBuilder message;
  auto rootfs = message.initRoot<schema::Rootfs>();
  rootfs.setManifestVersion(3);
  fill(rootfs);
  const auto words = capnp::messageToFlatArray(message);
  const auto bytes = words.asBytes();
  const auto view = std::as_bytes(std::span(bytes.begin(), bytes.size()));
  return {view.begin(), view.end()};
}

Bytes hostile_inode(const std::function<void(schema::Inode::Builder)>& fill) {
  return hostile([&](schema::Rootfs::Builder rootfs) {
    auto inode = rootfs.initMetadatas(1)[0].initInodes(1)[0];
    inode.setIno(1);
    fill(inode);
  });
}

void set_name(schema::DirEntry::Builder entry, std::string_view name) {
  entry.setName({reinterpret_cast<const kj::byte*>(name.data()), name.size()});
}

TEST(Metadata, RoundTripsEveryKindOfInode) {
  std::vector<InodeRecord> records = {
      directory(1, {{InodeNumber{2}, "a"}, {InodeNumber{3}, "b\xff"}}),
      file(2, {{kChunk, 0, 100, false}, {kChunk, 100, 50, true}}),
      {.ino = InodeNumber{3}, .type = FileType::kSymlink, .symlink_target = "/somewhere"},
      {.ino = InodeNumber{4}, .type = FileType::kCharacterDevice, .device = {4095, 1048575}},
      {.ino = InodeNumber{5}, .type = FileType::kBlockDevice, .device = {8, 17}},
      {.ino = InodeNumber{6}, .type = FileType::kFifo, .uid = 4'000'000'000, .gid = 3},
      {.ino = InodeNumber{7},
       .type = FileType::kSocket,
       .xattrs = {{"user.a", ""}, {"user.b", "x"}}},
  };
  const Bytes blob = write_metadata({records}, {{kChunk, sha256(as_bytes("verity"))}});
  const Metadata metadata(blob);
  for (const auto& record : records) EXPECT_EQ(to_record(metadata.get(record.ino)), record);
  EXPECT_EQ(metadata.get(InodeNumber{2}).size(), 150U);
  EXPECT_EQ(metadata.verity(kChunk), sha256(as_bytes("verity")));
  EXPECT_EQ(metadata.verity(sha256(as_bytes("other"))), std::nullopt);
}

TEST(Metadata, TakesTheTopmostLayerAndHonoursWhiteouts) {
  const Bytes blob = write_metadata(
      {{file(3, {}), whiteout(4)},
       {directory(1, {}), file(3, {{kChunk, 0, 9, false}}), file(4, {}), file(5, {})}},
      {});
  const Metadata metadata(blob);
  EXPECT_EQ(metadata.get(InodeNumber{3}).size(), 0U);
  EXPECT_FALSE(metadata.find(InodeNumber{4}));
  EXPECT_TRUE(metadata.find(InodeNumber{5}));
  EXPECT_FALSE(metadata.find(InodeNumber{6}));
  EXPECT_THROW(metadata.get(InodeNumber{6}), CorruptError);
}

// What the Rust puzzlefs writes of a file that lost one of its names.
TEST(Metadata, PrefersAnInodeToAWhiteoutOfItsNumberInTheSameLayer) {
  const Bytes written = write_metadata({{whiteout(2), file(2, {}), whiteout(3)}}, {});
  const Metadata metadata(written);
  ASSERT_TRUE(metadata.find(InodeNumber{2}));
  EXPECT_EQ(metadata.find(InodeNumber{2})->type(), FileType::kRegular);
  EXPECT_FALSE(metadata.find(InodeNumber{3}));
}

TEST(Metadata, RefusesWhatIsNotAMessage) {
  const Bytes blob = write_metadata({{directory(1, {})}}, {});
  EXPECT_THROW(Metadata({}), CorruptError);
  EXPECT_THROW(Metadata(Bytes(4096)), CorruptError);
  EXPECT_THROW(Metadata(Bytes(4096, std::byte{0xff})), CorruptError);
  for (std::size_t size = 8; size < blob.size(); size += 8) {
    Bytes truncated(blob.begin(), blob.begin() + static_cast<std::ptrdiff_t>(size));
    EXPECT_THROW(Metadata(truncated).get(kRootInode), CorruptError) << size;
  }
}

// Numbers from `first` on, but those of `gaps`, and each of `twice` with a whiteout before it.
std::vector<InodeRecord> numbered(std::uint64_t first, std::uint64_t count,
                                  const std::set<std::uint64_t>& gaps,
                                  const std::set<std::uint64_t>& twice) {
  std::vector<InodeRecord> inodes;
  for (std::uint64_t number = first; number < first + count; ++number) {
    if (gaps.contains(number)) continue;
    if (twice.contains(number)) inodes.push_back(whiteout(number));
    inodes.push_back(file(number, {}));
  }
  return inodes;
}

TEST(Metadata, FindsInodesHoweverTheyAreNumbered) {
  std::set<std::uint64_t> many_gaps;
  for (std::uint64_t number = 3; number < 300; number += 3) many_gaps.insert(number);
  std::set<std::uint64_t> many_twice;
  for (std::uint64_t number = 5; number < 300; number += 5) many_twice.insert(number);
  for (const auto& inodes :
       {numbered(1, 500, {}, {}), numbered(1, 500, {2, 70, 71, 200}, {}),
        numbered(1, 500, many_gaps, {}), numbered(1, 500, {}, many_twice),
        numbered(1, 500, many_gaps, many_twice), numbered(1000, 500, many_gaps, {4}),
        numbered(1, 1, {}, {}), numbered(1, 0, {}, {})}) {
    std::set<std::uint64_t> there;
    for (const auto& inode : inodes) there.insert(to_integer(inode.ino));
    const Bytes blob = write_metadata({inodes}, {});
    const Metadata metadata(blob);
    for (std::uint64_t number = 0; number < 1600; ++number) {
      const auto inode = metadata.find(InodeNumber{number});
      EXPECT_EQ(inode.has_value(), there.contains(number)) << number;
      if (inode) {
        EXPECT_EQ(to_integer(inode->number()), number);
      }
    }
  }
}

TEST(Metadata, FindsEveryNumberWhicheverAreLeftOut) {
  const std::function<bool(std::uint64_t)> patterns[] = {
      [](auto) { return true; },
      [](auto number) { return number == 1 || number > 80; },
      [](auto number) { return number < 20 || number > 90; },
      [](auto number) { return number % 7 != 3; },
      [](auto number) { return number % 10 == 0; },
      [](auto number) { return number == 99; },
      [](auto) { return false; }};
  for (const auto& is_there : patterns) {
    std::vector<InodeRecord> records;
    for (std::uint64_t number = 1; number < 100; ++number)
      if (is_there(number)) records.push_back(file(number, {}));
    if (!records.empty()) records.push_back(file(std::uint64_t{1} << 62, {}));
    const Bytes blob = write_metadata({records}, {});
    const Metadata metadata(blob);
    for (std::uint64_t number = 0; number < 102; ++number) {
      const auto found = metadata.find(InodeNumber{number});
      const bool expected = number > 0 && number < 100 && is_there(number);
      ASSERT_EQ(found.has_value(), expected) << number << " of " << records.size();
      if (!expected) continue;
      ASSERT_EQ(found->number(), InodeNumber{number});
    }
    EXPECT_EQ(metadata.find(InodeNumber{std::uint64_t{1} << 62}).has_value(), !records.empty());
    EXPECT_FALSE(metadata.find(InodeNumber{std::numeric_limits<std::uint64_t>::max()}));
  }
}

// It is read, and verified, where it is touched.
TEST(Metadata, FindsANumberWithoutALookAtMostOfTheOthers) {
  constexpr std::size_t kPage = 4096;
  constexpr std::size_t kNear = 16 * kPage;
  constexpr std::uint64_t kWanted = 30'001;
  std::vector<InodeRecord> records;
  for (std::uint64_t number = 1; number <= 50'000; ++number) {
    if (number % 5000 != 0) records.push_back(file(number, {}));  // as a delta leaves some out
  }
  const Bytes blob = write_metadata({records}, {});
  auto* const memory = static_cast<std::byte*>(
      ::mmap(nullptr, blob.size(), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  ASSERT_NE(memory, MAP_FAILED);
  std::ranges::copy(blob, memory);
  const Metadata metadata(ByteView(memory, blob.size()));
  const auto place = std::ranges::search(blob, std::as_bytes(std::span(&kWanted, 1)));
  const auto offset = static_cast<std::size_t>(place.begin() - blob.begin()) / kPage * kPage;
  ASSERT_GT(offset, 2 * kNear);
  ASSERT_LT(offset, blob.size() - 2 * kNear);
  // Whoever looks there crashes.
  ASSERT_EQ(::mprotect(memory + kNear, offset - 2 * kNear, PROT_NONE), 0);
  ASSERT_EQ(::mprotect(memory + offset + kNear, blob.size() - offset - kNear, PROT_NONE), 0);
  EXPECT_TRUE(metadata.find(InodeNumber{kWanted}));
  EXPECT_FALSE(metadata.find(InodeNumber{kWanted - 1}));
  ::munmap(memory, blob.size());
}

TEST(Metadata, IsNotBelievedOnceABlobIsNoLongerIntact) {
  InodeRecord link{.ino = InodeNumber{3}, .type = FileType::kSymlink, .symlink_target = "x"};
  link.xattrs = {{"user.a", "value"}};
  const Bytes blob = write_metadata(
      {{directory(1, {{InodeNumber{2}, "a"}}), file(2, {{kChunk, 0, 100, false}}), link}},
      {{kChunk, kChunk}});
  std::atomic<std::uint64_t> state = 0;
  const BlobWatch watch{&state, [] { throw Error(EIO, "It is gone."); }};
  const Metadata metadata(blob, watch);
  const auto root = metadata.get(kRootInode);
  const auto content = metadata.get(InodeNumber{2});
  const auto target = metadata.get(InodeNumber{3});
  const std::vector<std::function<void()>> looks = {[&] { root.number(); },
                                                    [&] { root.type(); },
                                                    [&] { root.uid(); },
                                                    [&] { root.gid(); },
                                                    [&] { root.permissions(); },
                                                    [&] { root.device(); },
                                                    [&] { root.entry_count(); },
                                                    [&] { root.entry(0); },
                                                    [&] { root.entry(7); },
                                                    [&] { content.chunk_count(); },
                                                    [&] { content.chunk(0); },
                                                    [&] { content.size(); },
                                                    [&] { target.size(); },
                                                    [&] { target.symlink_target(); },
                                                    [&] { target.xattr_count(); },
                                                    [&] { target.xattr(0); },
                                                    [&] { metadata.find({}); },
                                                    [&] { metadata.get(kRootInode); },
                                                    [&] { metadata.inode(0, 0); },
                                                    [&] { metadata.find_in_layer(0, kRootInode); },
                                                    [&] { metadata.verity(kChunk); },
                                                    [&] { metadata.verity_count(); },
                                                    [&] { metadata.verity_at(0); }};
  state = 1;
  for (std::size_t i = 0; i < looks.size(); ++i) {
    try {
      looks[i]();
      ADD_FAILURE() << "look " << i << " believed what it saw";
    } catch (const Error& error) {
      EXPECT_STREQ(error.what(), "It is gone.") << i;
    }
  }
  EXPECT_THROW(Metadata(blob, watch), Error);
}

TEST(Metadata, LooksAgainAtWhatWasRepairedMeanwhile) {
  Bytes blob = write_metadata({{directory(1, {{InodeNumber{2}, "a"}})}}, {});
  std::atomic<std::uint64_t> state = 0;
  const Metadata metadata(blob, {&state, [&] { state = 2; }});
  const auto root = metadata.get(kRootInode);
  state = 1;
  EXPECT_EQ(root.entry(0).name, "a");
  EXPECT_EQ(state, 2);
}

TEST(Metadata, RefusesAnotherVersion) {
  const Bytes blob = hostile([](schema::Rootfs::Builder rootfs) {
    rootfs.setManifestVersion(5);
    rootfs.initMetadatas(1);
  });
  EXPECT_THROW(Metadata{blob}, CorruptError);
}

TEST(Metadata, RefusesNamesThatLeadOutOfTheirDirectory) {
  const std::string_view names[] = {"", ".", "..", "a/b", "/", std::string_view("a\0b", 3)};
  for (const auto name : names) {
    const Bytes blob = hostile_inode([&](schema::Inode::Builder inode) {
      set_name(inode.getMode().initDir().initEntries(1)[0], name);
    });
    const Metadata metadata(blob);
    EXPECT_THROW(metadata.get(kRootInode).entry(0), CorruptError) << name;
  }
}

TEST(Metadata, RefusesNamesThatAreTooLong) {
  for (const std::size_t size : {255U, 256U}) {
    const Bytes blob = hostile_inode([&](schema::Inode::Builder inode) {
      set_name(inode.getMode().initDir().initEntries(1)[0], std::string(size, 'a'));
    });
    const Metadata metadata(blob);
    if (size == 255)
      EXPECT_EQ(metadata.get(kRootInode).entry(0).name.size(), size);
    else
      EXPECT_THROW(metadata.get(kRootInode).entry(0), CorruptError);
  }
}

TEST(Metadata, RefusesPiecesBeyondAnyChunk) {
  const std::pair<std::uint64_t, std::uint64_t> pieces[] = {
      {0, kMaxChunkSize + 1}, {kMaxChunkSize, 1}, {~0ULL, 1}, {1, ~0ULL}};
  for (const auto& [offset, size] : pieces) {
    const Bytes blob = write_metadata({{file(1, {{kChunk, offset, size, false}})}}, {});
    const Metadata metadata(blob);
    EXPECT_THROW(metadata.get(kRootInode).chunk(0), CorruptError);
  }
}

TEST(Metadata, RefusesADigestOfAnotherLength) {
  const Bytes blob = hostile_inode([](schema::Inode::Builder inode) {
    inode.getMode().initFile(1)[0].initBlob().initDigest(31);
  });
  const Metadata metadata(blob);
  EXPECT_THROW(metadata.get(kRootInode).chunk(0), CorruptError);
}

TEST(Metadata, RefusesImpossibleSymlinkTargets) {
  for (const std::size_t size : {0U, 4095U, 4096U}) {
    const Bytes blob = hostile_inode([&](schema::Inode::Builder inode) {
      inode.getMode().setLnk();
      auto target = inode.initAdditional().initSymlinkTarget(static_cast<unsigned>(size));
      std::fill(target.begin(), target.end(), 'x');
    });
    const Metadata metadata(blob);
    if (size == 4095)
      EXPECT_EQ(metadata.get(kRootInode).size(), size);
    else
      EXPECT_THROW(metadata.get(kRootInode).symlink_target(), CorruptError);
  }
}

TEST(Metadata, RefusesAnUnknownFileType) {
  const Bytes blob =
      hostile_inode([](schema::Inode::Builder inode) { inode.getMode().setUnknown(); });
  const Metadata metadata(blob);
  EXPECT_THROW(metadata.get(kRootInode).type(), CorruptError);
}

// A list of structs without any size takes no bytes, whatever its length: the attack that Cap'n
// Proto's own traversal limit is for, which a long-lived mount cannot use.
TEST(Metadata, RefusesListsOfNothing) {
  Bytes blob = hostile_inode([](schema::Inode::Builder inode) { inode.getMode().initFile(1); });
  const auto find_list_tag = [&]() -> std::uint64_t* {
    auto* words = reinterpret_cast<std::uint64_t*>(blob.data());
    // The tag of the list of FileChunk: one element (1 << 2), two data words, one pointer.
    for (std::size_t i = 0; i < blob.size() / 8; ++i)
      if (words[i] == ((1ULL << 2) | (2ULL << 32) | (1ULL << 48))) return &words[i];
    return nullptr;
  };
  std::uint64_t* tag = find_list_tag();
  ASSERT_NE(tag, nullptr);
  *tag = 0x1fff'ffffULL << 2;  // 2^29 - 1 elements of no words
  const Metadata metadata(blob);
  EXPECT_THROW(metadata.get(kRootInode).chunk_count(), CorruptError);
  EXPECT_THROW(metadata.get(kRootInode).size(), CorruptError);
}

void read_everything(const Metadata& metadata) {
  for (std::uint32_t layer = 0; layer < metadata.layer_count(); ++layer)
    for (std::uint32_t i = 0; i < metadata.inode_count(layer); ++i) {
      to_record(metadata.inode(layer, i));
      static_cast<void>(metadata.inode(layer, i).size());
    }
  for (std::uint32_t i = 0; i < metadata.verity_count(); ++i) metadata.verity_at(i);
}

TEST(Metadata, SurvivesEveryFlippedByte) {
  const Bytes good =
      write_metadata({{directory(1, {{InodeNumber{2}, "name"}, {InodeNumber{3}, "link"}}),
                       file(2, {{kChunk, 1, 2, true}}),
                       {.ino = InodeNumber{3},
                        .type = FileType::kSymlink,
                        .symlink_target = "t",
                        .xattrs = {{"user.a", "b"}}}}},
                     {{kChunk, kChunk}});
  int refused = 0;
  for (std::size_t at = 0; at < good.size(); ++at)
    for (const unsigned flip : {0x01U, 0x04U, 0x80U, 0xffU}) {
      Bytes blob = good;
      blob[at] ^= static_cast<std::byte>(flip);
      try {
        const Metadata metadata(blob);
        read_everything(metadata);
      } catch (const CorruptError&) {
        ++refused;
      }
    }
  EXPECT_GT(refused, 0);
}

}  // namespace
}  // namespace puzzlefs::format
