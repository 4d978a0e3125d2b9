// Chunks on their way into packs, as a converter would feed them.
#include "build/pack_writer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "../support/metadata_blob.h"
#include "../support/temp_dir.h"
#include "format/error.h"
#include "packed.h"
#include "trees.h"

namespace puzzlefs::build {
namespace {

namespace fs = std::filesystem;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

Slice slice(std::string_view text) {
  const auto view = as_bytes(text);
  auto buffer = std::make_shared<const Bytes>(view.begin(), view.end());
  const ByteView bytes = *buffer;
  return {.buffer = std::move(buffer), .bytes = bytes};
}

std::vector<std::uint32_t> places(const PackedStream& stream) {
  std::vector<std::uint32_t> result;
  for (const auto index : stream.chunks) result.push_back(format::to_integer(index));
  return result;
}

std::vector<std::uint64_t> hot_sizes(const PackedStream& stream) {
  std::vector<std::uint64_t> result;
  for (const auto& pack : stream.contents.packs) result.push_back(pack.hot_size);
  return result;
}

class Packs : public testing::Test {
 protected:
  PackedStream write(const std::vector<std::string>& chunks,
                     const PackOptions& options = {}) const {
    PackWriter writer(layout_, options);
    for (const auto& chunk : chunks) writer.add(slice(chunk));
    return writer.finish();
  }

  std::string file_of(const format::Pack& pack) const {
    return test::read_file(layout_.blob_path(pack.digest));
  }

  const test::TempDir scratch_;
  const fetch::Layout layout_ = fetch::Layout::create(scratch_ / "layout");
};

TEST_F(Packs, HoldTheChunksOneBehindTheOther) {
  const auto raw = test::noise(1000, "raw");
  const auto zeros = std::string(5000, '\0');
  const PackedStream stream = write({raw, zeros, "x"});
  const auto& [packs, chunks, verity] = stream.contents;
  EXPECT_THAT(places(stream), ElementsAre(0, 1, 2));
  ASSERT_THAT(packs, SizeIs(1));
  ASSERT_THAT(chunks, SizeIs(3));
  EXPECT_EQ(chunks[0].digest, format::sha256(as_bytes(raw)));
  EXPECT_EQ(chunks[0].stored_size, 1000U);
  EXPECT_EQ(chunks[1].offset, 1000U);
  EXPECT_EQ(chunks[1].size, 5000U);
  EXPECT_LT(chunks[1].stored_size, 100U);
  EXPECT_EQ(chunks[2].offset, 1000U + chunks[1].stored_size);
  const auto file = file_of(packs[0]);
  EXPECT_EQ(format::sha256(as_bytes(file)), packs[0].digest);
  EXPECT_EQ(file.size(), packs[0].size);
  EXPECT_EQ(file.substr(0, 1000), raw);
  EXPECT_EQ(file.back(), 'x');
  const auto frame = as_bytes(file).subspan(chunks[1].offset, chunks[1].stored_size);
  EXPECT_EQ(as_text(format::FrameDecompressor().decompress(frame, 5000)), zeros);
  EXPECT_THAT(verity,
              ElementsAre(std::pair(packs[0].digest, format::verity_digest(as_bytes(file)))));
  EXPECT_EQ(stream.new_packs, 1U);
  EXPECT_EQ(stream.new_bytes, file.size());
}

TEST_F(Packs, HaveEachChunkOnce) {
  const PackedStream stream = write({"a", "b", "a", "c", "b", "a"}, {.threads = 3});
  EXPECT_THAT(places(stream), ElementsAre(0, 1, 0, 2, 1, 0));
  EXPECT_EQ(file_of(stream.contents.packs.at(0)), "abc");
}

TEST_F(Packs, HaveChunksAsTheyAreWithoutALevel) {
  const auto text = std::string(5000, 'a');
  const PackedStream stream = write({text}, {.level = 0});
  EXPECT_EQ(file_of(stream.contents.packs.at(0)), text);
}

TEST_F(Packs, AreNoneOfAStreamOfNothing) {
  const PackedStream stream = write({});
  EXPECT_THAT(stream.contents.packs, IsEmpty());
  EXPECT_THAT(stream.chunks, IsEmpty());
}

TEST_F(Packs, EndWhenTheyAreFull) {
  std::vector<std::string> chunks;
  for (int i = 0; i < 10; ++i) chunks.push_back(test::noise(400, std::to_string(i)));
  const PackedStream stream = write(chunks, {.pack_size = 1000});
  EXPECT_THAT(stream.contents.packs, SizeIs(4)) << "three chunks each, and the last";
  EXPECT_THAT(places(stream), ElementsAre(0, 1, 2, 3, 4, 5, 6, 7, 8, 9));
  EXPECT_EQ(stream.contents.chunks[3].pack, 1U);
  EXPECT_EQ(stream.contents.chunks[3].offset, 0U);
  EXPECT_THAT(test::temporary_files(layout_), IsEmpty());
}

TEST_F(Packs, GrowSoThatThereAreNeverTooMany) {
  std::vector<std::string> chunks;
  for (int i = 0; i < 1000; ++i) chunks.push_back(test::noise(100, std::to_string(i)));
  const PackedStream stream = write(chunks, {.level = 0, .pack_size = 100});
  EXPECT_THAT(stream.contents.chunks, SizeIs(1000));
  EXPECT_THAT(stream.contents.packs, SizeIs(testing::AllOf(testing::Gt(128U), testing::Le(256U))));
}

TEST_F(Packs, AreTheSameWhateverTheNumberOfThreads) {
  std::vector<std::string> chunks;
  for (int i = 0; i < 300; ++i)
    chunks.push_back(std::string(3000, 'a') + test::noise(5000, std::to_string(i % 200)));
  const auto one = write(chunks, {.threads = 1, .pack_size = 100'000});
  const auto four = write(chunks, {.threads = 4, .pack_size = 100'000});
  EXPECT_EQ(one.contents.packs, four.contents.packs);
  EXPECT_EQ(one.contents.chunks, four.contents.chunks);
  EXPECT_EQ(one.chunks, four.chunks);
  EXPECT_EQ(four.new_packs, 0U) << "the layout had them";
}

TEST_F(Packs, OfWhatIsHotEndBehindIt) {
  PackWriter writer(layout_, {.threads = 2, .pack_size = 1000});
  for (int i = 0; i < 4; ++i) writer.add(slice(test::noise(400, std::to_string(i))));
  writer.end_hot();
  for (int i = 3; i < 6; ++i) writer.add(slice(test::noise(400, std::to_string(i))));
  EXPECT_THAT(hot_sizes(writer.finish()), ElementsAre(1200, 400, 0));
}

TEST_F(Packs, HaveALevelOfTheirOwnForWhatIsHot) {
  const std::string text(5000, 'x');
  PackWriter writer(layout_, {.level = 3, .hot_level = 0});
  writer.add(slice(text + "hot"));
  writer.end_hot();
  writer.add(slice(text + "not"));
  const auto written = writer.finish();
  EXPECT_FALSE(written.contents.chunks.at(0).is_compressed());
  EXPECT_TRUE(written.contents.chunks.at(1).is_compressed());
}

TEST_F(Packs, CanAllBeHot) {
  PackWriter writer(layout_, {});
  writer.add(slice("hot"));
  writer.end_hot();
  EXPECT_THAT(hot_sizes(writer.finish()), ElementsAre(3));
}

TEST_F(Packs, AreNotThereBeforeTheyAreWhole) {
  {
    PackWriter writer(layout_, {.pack_size = 1000});
    for (int i = 0; i < 5; ++i) writer.add(slice(test::noise(400, std::to_string(i))));
    // Given up, as by an exception.
  }
  EXPECT_THAT(test::temporary_files(layout_), IsEmpty());
  for (const auto& entry : fs::directory_iterator(layout_.path() / "blobs" / "sha256")) {
    EXPECT_EQ(format::sha256(as_bytes(test::read_file(entry.path()))).hex(),
              entry.path().filename());
  }
}

TEST_F(Packs, ThatCannotBeWrittenAreAnError) {
  fs::remove_all(layout_.path() / "blobs");
  try {
    write({"a", "b"});
    FAIL();
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr("blobs"));
  }
}

// A base of one pack that is hardly needed, so that what is needed of it is read.
class BrokenBase : public Packs {
 protected:
  BrokenBase() : metadata_(format::write_packed_metadata({}, stream_.contents)) {}

  std::string failure(const std::function<Bytes(const format::PackedChunk&)>& read) const {
    const format::Metadata metadata(metadata_);
    PackWriter writer(layout_, {}, PackBase{metadata, read});
    writer.add(slice(kept_));
    try {
      writer.finish();
    } catch (const CorruptError& error) {
      return error.what();
    }
    return "no failure";
  }

  const std::string kept_ = std::string(2000, 'k');
  const PackedStream stream_ = write({kept_, test::noise(5000, "gone")});
  const Bytes metadata_;
};

TEST_F(BrokenBase, IsNotCarriedOver) {
  EXPECT_EQ(failure([this](const format::PackedChunk& chunk) {
              const auto file = file_of(stream_.contents.packs.at(0));
              const auto stored = as_bytes(file).subspan(chunk.offset, chunk.stored_size);
              return Bytes(stored.begin(), stored.end());
            }),
            "no failure");
  EXPECT_THAT(failure([](const auto& chunk) { return Bytes(chunk.stored_size); }),
              HasSubstr("malformed"));
  const auto other = format::FrameCompressor().compress(Bytes(2000, std::byte{'x'}));
  EXPECT_THAT(failure([&](const auto&) { return *other; }), HasSubstr("does not hold the chunk"));
}

}  // namespace
}  // namespace puzzlefs::build
