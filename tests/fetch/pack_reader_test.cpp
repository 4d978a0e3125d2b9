#include "fetch/pack_reader.h"

#include <capnp/message.h>
#include <capnp/serialize.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <future>

#include "fetch/given_up.h"
#include "fetch/head_start.h"
#include "format/error.h"
#include "manual_source.h"
#include "packed_image.h"

namespace puzzlefs::fetch {
namespace {

using format::ChunkIndex;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

constexpr std::size_t kSize = 20'000;

SharedPriority priority(Priority value) {
  return std::make_shared<std::atomic<Priority>>(value);
}

class PackReaderTest : public ::testing::Test {
 protected:
  /// A reader waits for its requests.
  void TearDown() override {
    for (const auto& read : manual_.reads) read->end();
  }
  ChunkIndex add(std::uint32_t seed, std::size_t size = kSize) {
    return image_.add(noise(size, seed));
  }
  void open(BlobSource& source, MemorySource& packs) {
    image_.finish(packs);
    reader_.emplace(runtime_, source, image_.metadata());
  }
  std::future<Outcome<Bytes>> get(ChunkIndex index, const SharedPriority& urgency,
                                  Freshness freshness = Freshness::kAny) {
    const auto promise = std::make_shared<std::promise<Outcome<Bytes>>>();
    reader_->get(index, urgency, freshness,
                 [promise](Outcome<Bytes> outcome) { promise->set_value(std::move(outcome)); });
    return promise->get_future();
  }
  std::future<Outcome<Bytes>> get(ChunkIndex index, Priority urgency = Priority::kReader) {
    return get(index, priority(urgency));
  }
  ByteRange place(ChunkIndex first, ChunkIndex last) const {
    const auto end = image_.chunk(last).offset + image_.chunk(last).stored_size;
    return {image_.chunk(first).offset, end - image_.chunk(first).offset};
  }

  MemorySource source_;
  ManualSource manual_;
  PackedImage image_;
  Runtime runtime_{2};
  std::optional<HeadStart> head_;
  std::optional<PackReader> reader_;
};

TEST_F(PackReaderTest, GivesARawChunkAndACompressedOne) {
  const auto raw = add(1);
  const auto compressed = image_.add(std::string(100'000, 'c'));
  open(source_, source_);
  EXPECT_EQ(as_text(get(raw).get().value()), noise(kSize, 1));
  EXPECT_EQ(as_text(get(compressed).get().value()), std::string(100'000, 'c'));
  EXPECT_THAT(source_.ranges(), ElementsAre(place(raw, raw), place(compressed, compressed)));
}

TEST_F(PackReaderTest, OfAHeadStartNobodyIsHeldBack) {
  const auto first = add(1);
  const auto second = add(2);
  image_.finish(source_);
  format::Descriptor pack;
  pack.digest = image_.metadata().pack(0).digest;
  pack.size = image_.metadata().pack(0).size;
  head_.emplace(runtime_, manual_, HotRange{pack, pack.size});
  reader_.emplace(runtime_, *head_, image_.metadata());
  const auto urgency = priority(Priority::kPrefetch);
  auto one = get(first, urgency);
  auto other = get(second, Priority::kPrefetch);
  *urgency = Priority::kReader;
  reader_->raised();
  ASSERT_THAT(manual_.reads, SizeIs(1));
  EXPECT_FALSE(manual_.reads[0]->paused);
  const auto bytes = noise(kSize, 1) + noise(kSize, 2);
  manual_.reads[0]->on_bytes(0, as_bytes(bytes));
  EXPECT_EQ(as_text(one.get().value()), noise(kSize, 1));
  EXPECT_EQ(as_text(other.get().value()), noise(kSize, 2));
}

TEST_F(PackReaderTest, PutsNeighboursIntoOneRequest) {
  const auto first = add(1);
  const auto second = add(2);
  const auto third = add(3);
  open(source_, source_);
  std::vector<std::future<Outcome<Bytes>>> answers;
  {
    const PackReader::Hold hold(*reader_);
    answers.push_back(get(second));
    answers.push_back(get(third, Priority::kPrefetch));
    answers.push_back(get(first, Priority::kReadAhead));
    EXPECT_THAT(source_.ranges(), IsEmpty());
  }
  EXPECT_EQ(as_text(answers[0].get().value()), noise(kSize, 2));
  EXPECT_EQ(as_text(answers[1].get().value()), noise(kSize, 3));
  EXPECT_EQ(as_text(answers[2].get().value()), noise(kSize, 1));
  EXPECT_THAT(source_.ranges(), ElementsAre(place(first, third)));
}

TEST_F(PackReaderTest, ReadsOverASmallGapAndNotOverALargeOne) {
  const auto first = add(1);
  image_.add_gap(100 << 10);
  const auto second = add(2);
  image_.add_gap(200 << 10);
  const auto third = add(3);
  open(source_, source_);
  std::vector<std::future<Outcome<Bytes>>> answers;
  {
    const PackReader::Hold hold(*reader_);
    for (const auto index : {first, second, third}) answers.push_back(get(index));
  }
  for (std::uint32_t i = 0; i < 3; ++i) {
    EXPECT_EQ(as_text(answers[i].get().value()), noise(kSize, i + 1));
  }
  EXPECT_THAT(source_.ranges(), ElementsAre(place(first, second), place(third, third)));
}

TEST_F(PackReaderTest, DoesNotReadAcrossPacks) {
  const auto first = add(1);
  image_.start_pack();
  const auto second = add(2);
  open(source_, source_);
  std::vector<std::future<Outcome<Bytes>>> answers;
  {
    const PackReader::Hold hold(*reader_);
    answers.push_back(get(first));
    answers.push_back(get(second));
  }
  for (auto& answer : answers) EXPECT_TRUE(answer.get().ok());
  EXPECT_THAT(source_.ranges(), SizeIs(2));
}

TEST_F(PackReaderTest, AsksAReaderForNoMoreThanAMebibyteAtATime) {
  std::vector<ChunkIndex> chunks;
  for (std::uint32_t i = 0; i < 100; ++i) chunks.push_back(add(i));
  open(source_, source_);
  std::vector<std::future<Outcome<Bytes>>> answers;
  {
    const PackReader::Hold hold(*reader_);
    for (const auto chunk : chunks) answers.push_back(get(chunk));
  }
  for (auto& answer : answers) EXPECT_TRUE(answer.get().ok());
  EXPECT_THAT(source_.ranges(), SizeIs(2));
  EXPECT_LE(source_.ranges().front().size, std::uint64_t{1} << 20);
}

TEST_F(PackReaderTest, HandsOnAChunkBeforeTheRequestIsComplete) {
  const auto first = add(1);
  const auto second = add(2);
  open(manual_, source_);
  std::future<Outcome<Bytes>> one;
  std::future<Outcome<Bytes>> two;
  {
    const PackReader::Hold hold(*reader_);
    one = get(first);
    two = get(second);
  }
  ASSERT_THAT(manual_.reads, SizeIs(1));
  const auto pack = noise(kSize, 1) + noise(kSize, 2);
  manual_.reads[0]->on_bytes(0, as_bytes(pack).first(kSize + 10));
  EXPECT_EQ(as_text(one.get().value()), noise(kSize, 1));
  manual_.reads[0]->on_bytes(kSize + 10, as_bytes(pack).subspan(kSize + 10));
  EXPECT_EQ(as_text(two.get().value()), noise(kSize, 2));
  manual_.reads[0]->done(Done{});
}

TEST_F(PackReaderTest, TakesWhatItWantsOfAWholePack) {
  add(1);
  const auto wanted = add(2);
  add(3);
  open(manual_, source_);
  auto answer = get(wanted);
  EXPECT_TRUE(reader_->has_ranges());
  const auto pack = noise(kSize, 1) + noise(kSize, 2) + noise(kSize, 3);
  manual_.reads[0]->on_bytes(0, as_bytes(pack));
  manual_.reads[0]->done(Done{});
  EXPECT_EQ(as_text(answer.get().value()), noise(kSize, 2));
  EXPECT_FALSE(reader_->has_ranges());
}

TEST_F(PackReaderTest, FailsWhatHasNotComeWithTheErrorOfTheSource) {
  const auto first = add(1);
  const auto second = add(2);
  open(manual_, source_);
  std::future<Outcome<Bytes>> one;
  std::future<Outcome<Bytes>> two;
  {
    const PackReader::Hold hold(*reader_);
    one = get(first);
    two = get(second);
  }
  manual_.reads[0]->on_bytes(0, as_bytes(noise(kSize, 1)));
  manual_.reads[0]->done(std::make_exception_ptr(UnavailableError("It is gone.")));
  EXPECT_TRUE(one.get().ok());
  auto failed = two.get();
  EXPECT_THROW(failed.value(), UnavailableError);
}

TEST_F(PackReaderTest, FailsAChunkOfWhichTooLittleCame) {
  const auto chunk = add(1);
  open(manual_, source_);
  auto answer = get(chunk);
  manual_.reads[0]->on_bytes(0, as_bytes(noise(kSize, 1)).first(100));
  manual_.reads[0]->done(Done{});
  auto failed = answer.get();
  EXPECT_THROW(failed.value(), CorruptError);
}

TEST_F(PackReaderTest, NamesTheChunkThatCannotBeDecompressed) {
  const auto chunk = image_.add(std::string(100'000, 'c'));
  open(manual_, source_);
  auto answer = get(chunk);
  manual_.reads[0]->on_bytes(0, as_bytes(noise(image_.chunk(chunk).stored_size, 9)));
  manual_.reads[0]->done(Done{});
  auto failed = answer.get();
  EXPECT_THAT([&] { failed.value(); }, ::testing::ThrowsMessage<CorruptError>(
                                           HasSubstr(image_.chunk(chunk).digest.to_string())));
}

TEST_F(PackReaderTest, AnswersAllWhoAskForAChunkWithOneRequest) {
  const auto chunk = add(1);
  open(manual_, source_);
  std::future<Outcome<Bytes>> one;
  std::future<Outcome<Bytes>> two;
  {
    const PackReader::Hold hold(*reader_);
    one = get(chunk, Priority::kBackground);
    two = get(chunk);
  }
  ASSERT_THAT(manual_.reads, SizeIs(1));
  manual_.reads[0]->on_bytes(0, as_bytes(noise(kSize, 1)));
  manual_.reads[0]->done(Done{});
  EXPECT_TRUE(one.get().ok());
  EXPECT_TRUE(two.get().ok());
}

TEST_F(PackReaderTest, LetsAReaderGoAheadOfWhatNobodyWaitsFor) {
  std::vector<ChunkIndex> far_apart;
  for (std::uint32_t i = 0; i < 6; ++i) {
    far_apart.push_back(add(i));
    image_.add_gap(200 << 10);
  }
  open(manual_, source_);
  std::vector<std::future<Outcome<Bytes>>> prefetched;
  for (std::uint32_t i = 0; i < 5; ++i) {
    prefetched.push_back(get(far_apart[i], Priority::kPrefetch));
  }
  ASSERT_THAT(manual_.reads, SizeIs(2)) << "more must not be begun";
  auto answer = get(far_apart[5]);
  ASSERT_THAT(manual_.reads, SizeIs(3));
  EXPECT_EQ(manual_.reads[2]->range, place(far_apart[5], far_apart[5]));
  EXPECT_TRUE(manual_.reads[0]->paused);
  EXPECT_TRUE(manual_.reads[1]->paused);
  EXPECT_FALSE(manual_.reads[2]->paused);

  manual_.reads[2]->on_bytes(manual_.reads[2]->range.offset, as_bytes(noise(kSize, 5)));
  manual_.reads[2]->done(Done{});
  EXPECT_TRUE(answer.get().ok());
  EXPECT_FALSE(manual_.reads[0]->paused);
  EXPECT_FALSE(manual_.reads[1]->paused);
  reader_->close();
}

TEST_F(PackReaderTest, RaisesWhatSomebodyHasBegunToWaitFor) {
  std::vector<ChunkIndex> far_apart;
  for (std::uint32_t i = 0; i < 4; ++i) {
    far_apart.push_back(add(i));
    image_.add_gap(200 << 10);
  }
  open(manual_, source_);
  std::vector<std::future<Outcome<Bytes>>> answers;
  const auto urgency = priority(Priority::kPrefetch);
  for (std::uint32_t i = 0; i < 3; ++i) answers.push_back(get(far_apart[i], Priority::kPrefetch));
  answers.push_back(get(far_apart[3], urgency));
  ASSERT_THAT(manual_.reads, SizeIs(2));
  urgency->store(Priority::kReader);
  reader_->raised();
  ASSERT_THAT(manual_.reads, SizeIs(3));
  EXPECT_EQ(manual_.reads[2]->range, place(far_apart[3], far_apart[3]));
  reader_->close();
}

TEST_F(PackReaderTest, FailsWhatWaitsAndWhatIsToComeOnceClosed) {
  const auto first = add(1);
  const auto second = add(2);
  open(manual_, source_);
  std::future<Outcome<Bytes>> waiting;
  {
    const PackReader::Hold hold(*reader_);
    waiting = get(first);
    reader_->close();
  }
  auto failed = waiting.get();
  EXPECT_THROW(failed.value(), UnavailableError);
  auto late = get(second).get();
  EXPECT_THROW(late.value(), UnavailableError);
  EXPECT_THAT(manual_.reads, IsEmpty());
}

TEST_F(PackReaderTest, AsksForLessAtOnceAfterASetback) {
  std::vector<ChunkIndex> far_apart;
  for (std::uint32_t i = 0; i < 16; ++i) {
    far_apart.push_back(add(i));
    image_.add_gap(200 << 10);
  }
  open(manual_, source_);
  std::vector<std::future<Outcome<Bytes>>> answers;
  for (const auto chunk : far_apart) answers.push_back(get(chunk));
  ASSERT_THAT(manual_.reads, SizeIs(Concurrency::kFirst));
  manual_.setbacks_ = 3;
  for (std::size_t i = 0; i < 4; ++i) manual_.reads[i]->end();
  EXPECT_THAT(manual_.reads, SizeIs(8)) << "half of them are still under way";
  manual_.reads[4]->end();
  EXPECT_THAT(manual_.reads, SizeIs(9));
  reader_->close();
}

TEST_F(PackReaderTest, AsksNotForWhatWasGivenUp) {
  const auto first = add(1);
  const auto beside = add(3);
  image_.add_gap(1 << 20);
  const auto second = add(2);
  open(manual_, source_);
  std::future<Outcome<Bytes>> given_up;
  std::future<Outcome<Bytes>> ahead;
  std::future<Outcome<Bytes>> wanted;
  const auto urgency = priority(Priority::kReader);
  {
    const PackReader::Hold hold(*reader_);
    given_up = get(first, urgency);
    ahead = get(beside, Priority::kReadAhead);
    wanted = get(second);
    *urgency = Priority::kNobody;
    reader_->given_up();
  }
  EXPECT_TRUE(is_given_up(given_up.get().error()));
  EXPECT_TRUE(is_given_up(ahead.get().error()));
  ASSERT_THAT(manual_.reads, SizeIs(1));
  EXPECT_EQ(manual_.reads[0]->range, place(second, second));
  EXPECT_TRUE(is_given_up(get(first, urgency).get().error())) << "it is not even queued";
  EXPECT_THAT(manual_.reads, SizeIs(1));
}

TEST_F(PackReaderTest, CancelsARequestForWhatWasGivenUpAndWhatWentAlong) {
  const auto first = add(1);
  const auto second = add(2);
  open(manual_, source_);
  std::future<Outcome<Bytes>> given_up;
  std::future<Outcome<Bytes>> ahead;
  const auto urgency = priority(Priority::kReader);
  {
    const PackReader::Hold hold(*reader_);
    given_up = get(first, urgency);
    ahead = get(second, Priority::kReadAhead);
  }
  ASSERT_THAT(manual_.reads, SizeIs(1));
  EXPECT_FALSE(manual_.reads[0]->cancelled);
  *urgency = Priority::kNobody;
  reader_->given_up();
  EXPECT_TRUE(manual_.reads[0]->cancelled);
  manual_.reads[0]->end();
  EXPECT_TRUE(is_given_up(given_up.get().error()));
  EXPECT_TRUE(is_given_up(ahead.get().error()));
}

TEST_F(PackReaderTest, CancelsNoRequestThatSomebodyElseWaitsFor) {
  constexpr std::array kOthers{Priority::kReader, Priority::kPrefetch, Priority::kBackground};
  std::vector<ChunkIndex> chunks;
  for (std::uint32_t i = 0; i < kOthers.size(); ++i) {
    chunks.push_back(add(2 * i));
    chunks.push_back(add(2 * i + 1));
    image_.add_gap(1 << 20);
  }
  open(manual_, source_);
  for (std::uint32_t i = 0; i < kOthers.size(); ++i) {
    std::future<Outcome<Bytes>> given_up;
    std::future<Outcome<Bytes>> wanted;
    const auto urgency = priority(Priority::kReader);
    {
      const PackReader::Hold hold(*reader_);
      given_up = get(chunks[2 * i], urgency);
      wanted = get(chunks[2 * i + 1], kOthers[i]);
    }
    *urgency = Priority::kNobody;
    reader_->given_up();
    ASSERT_THAT(manual_.reads, SizeIs(i + 1));
    auto& request = *manual_.reads[i];
    EXPECT_FALSE(request.cancelled);
    const auto bytes = noise(kSize, 2 * i) + noise(kSize, 2 * i + 1);
    request.on_bytes(request.range.offset, as_bytes(bytes));
    request.done(Done{});
    EXPECT_EQ(as_text(wanted.get().value()), noise(kSize, 2 * i + 1));
    EXPECT_EQ(as_text(given_up.get().value()), noise(kSize, 2 * i)) << "it came all the same";
  }
}

TEST_F(PackReaderTest, HoldsOthersBackNoLongerForWhatWasGivenUp) {
  const auto first = add(1);
  image_.add_gap(1 << 20);
  const auto second = add(2);
  open(manual_, source_);
  auto prefetched = get(first, Priority::kPrefetch);
  const auto urgency = priority(Priority::kReader);
  auto given_up = get(second, urgency);
  ASSERT_THAT(manual_.reads, SizeIs(2));
  EXPECT_TRUE(manual_.reads[0]->paused);
  *urgency = Priority::kNobody;
  reader_->given_up();
  EXPECT_FALSE(manual_.reads[0]->paused);
  EXPECT_FALSE(manual_.reads[0]->cancelled);
  EXPECT_TRUE(manual_.reads[1]->cancelled);
}

TEST_F(PackReaderTest, RefusesAnImageWithAMalformedPack) {
  capnp::MallocMessageBuilder message;
  auto root = message.initRoot<format::schema::Rootfs>();
  root.setManifestVersion(4);
  root.initMetadatas(1);
  auto packs = root.initPacks(2);
  const auto digest = format::sha256({});
  const auto* const bytes = reinterpret_cast<const kj::byte*>(digest.bytes().data());
  packs[0].setDigest(kj::arrayPtr(bytes, format::Digest::kSize));
  packs[1].setDigest(kj::arrayPtr(bytes, 5));
  const auto words = capnp::messageToFlatArray(message);
  const format::Metadata metadata(std::as_bytes(std::span(words.begin(), words.end())));
  EXPECT_THROW(PackReader(runtime_, source_, metadata), CorruptError);
}

TEST_F(PackReaderTest, AsksForAllThatIsWantedOfAPackOnceItsServerHasNoRanges) {
  std::vector<ChunkIndex> chunks;
  std::string pack;
  for (std::uint32_t i = 0; i < 4; ++i) {
    chunks.push_back(add(i));
    image_.add_gap(1 << 20);
    pack += noise(kSize, i) + std::string(1 << 20, '-');
  }
  open(manual_, source_);
  auto first = get(chunks[3]);
  manual_.reads[0]->on_bytes(0, as_bytes(pack));
  manual_.reads[0]->done(Done{});
  EXPECT_TRUE(first.get().ok());
  std::vector<std::future<Outcome<Bytes>>> answers;
  {
    const PackReader::Hold hold(*reader_);
    for (std::uint32_t i = 0; i < 3; ++i) answers.push_back(get(chunks[i], Priority::kReadAhead));
  }
  ASSERT_THAT(manual_.reads, SizeIs(2));
  manual_.reads[1]->on_bytes(0, as_bytes(pack));
  manual_.reads[1]->done(Done{});
  for (std::uint32_t i = 0; i < 3; ++i) {
    EXPECT_EQ(as_text(answers[i].get().value()), noise(kSize, i));
  }
}

TEST_F(PackReaderTest, DoesNotMixWhatGoesPastCachesWithWhatDoesNot) {
  const auto first = add(1);
  const auto second = add(2);
  open(source_, source_);
  std::vector<std::future<Outcome<Bytes>>> answers;
  {
    const PackReader::Hold hold(*reader_);
    answers.push_back(get(first, priority(Priority::kReader), Freshness::kBypass));
    answers.push_back(get(second));
  }
  for (auto& answer : answers) EXPECT_TRUE(answer.get().ok());
  EXPECT_THAT(source_.reads(), ElementsAre(Freshness::kBypass, Freshness::kAny));
}

}  // namespace
}  // namespace puzzlefs::fetch
