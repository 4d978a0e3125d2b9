// A note has a header, then the numbers of all inodes with a count, ascending, so that a search
// touches few pages, then the counts. All are little-endian.
#include "fs/link_counts.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <utility>
#include <vector>

#include "fetch/image.h"
#include "fs/link_counter.h"

namespace puzzlefs::fs {
namespace {

static_assert(std::endian::native == std::endian::little, "notes are read in place");

struct Header {
  std::array<char, 8> magic;  // with the version
  std::uint64_t inodes;
  std::uint64_t bytes;
  std::uint64_t records;
};
constexpr std::array<char, 8> kMagic{'p', 'f', 's', 'l', 'n', 'k', '0', '1'};
constexpr std::size_t kRecordSize = sizeof(std::uint64_t) + sizeof(std::uint32_t);

template <class T>
void append(Bytes& bytes, std::span<const T> values) {
  const auto added = std::as_bytes(values);
  bytes.insert(bytes.end(), added.begin(), added.end());
}

Bytes to_note(const LinkCounter& counter) {
  std::vector<std::pair<std::uint64_t, std::uint32_t>> records(counter.counts().begin(),
                                                               counter.counts().end());
  std::sort(records.begin(), records.end());
  std::vector<std::uint64_t> numbers;
  std::vector<std::uint32_t> counts;
  for (const auto& [number, count] : records) {
    numbers.push_back(number);
    counts.push_back(count);
  }
  const Header header{kMagic, counter.inodes(), counter.bytes(), records.size()};
  Bytes note;
  note.reserve(sizeof header + records.size() * kRecordSize);
  append(note, std::span(&header, 1));
  append(note, std::span<const std::uint64_t>(numbers));
  append(note, std::span<const std::uint32_t>(counts));
  return note;
}

Bytes count(const format::Metadata& metadata) {
  LinkCounter counter(metadata);
  counter.walk();
  return to_note(counter);
}

}  // namespace

LinkCounts::LinkCounts(const format::Metadata& metadata) : LinkCounts(count(metadata)) {
  read_header();
}

std::optional<LinkCounts> LinkCounts::parse(fetch::BlobNote note) {
  LinkCounts counts(std::move(note));
  if (!counts.read_header()) return std::nullopt;
  return counts;
}

ByteView LinkCounts::note() const {
  const auto* const kept = std::get_if<fetch::BlobNote>(&owner_);
  return kept != nullptr ? kept->bytes() : ByteView(std::get<Bytes>(owner_));
}

bool LinkCounts::read_header() {
  const auto bytes = note();
  Header header;
  if (bytes.size() < sizeof header) return false;
  std::memcpy(&header, bytes.data(), sizeof header);
  const auto rest = bytes.subspan(sizeof header);
  const auto records = rest.size() / kRecordSize;
  if (header.magic != kMagic || header.records != records || rest.size() % kRecordSize != 0) {
    return false;
  }
  inodes_ = header.inodes;
  bytes_ = header.bytes;
  numbers_ = {reinterpret_cast<const std::uint64_t*>(rest.data()), records};
  counts_ = {reinterpret_cast<const std::uint32_t*>(rest.data() + numbers_.size_bytes()), records};
  return true;
}

std::uint32_t LinkCounts::find(format::InodeNumber number) const {
  const auto wanted = format::to_integer(number);
  const auto found = std::lower_bound(numbers_.begin(), numbers_.end(), wanted);
  if (found == numbers_.end() || *found != wanted) return 0;
  return counts_[static_cast<std::size_t>(found - numbers_.begin())];
}

LinkCounts link_counts(const fetch::Image& image) {
  if (auto note = image.recall_note()) {
    if (auto kept = LinkCounts::parse(std::move(*note))) return std::move(*kept);
  }
  LinkCounts counted(*image.metadata_to_walk());
  image.keep_note(counted.note());
  return counted;
}

}  // namespace puzzlefs::fs
