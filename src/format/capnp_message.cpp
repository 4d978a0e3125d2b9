#include "format/capnp_message.h"

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>
#include <span>

#include "format/error.h"

namespace puzzlefs::format {

namespace {

static_assert(std::endian::native == std::endian::little, "Cap'n Proto words are little-endian");

constexpr std::uint64_t kWordSize = sizeof(std::uint64_t);
// Segments of the Rust library, and list lengths of the encoding, end here.
constexpr std::uint32_t kMaxSegmentWords = 1U << 29;

// How much write_to() gives at once.
constexpr std::size_t kPartSize = std::size_t{1} << 20;

// The low three bits of a pointer's upper half say how large a list's elements are.
constexpr std::uint64_t kByteElements = 2;
constexpr std::uint64_t kCompositeElements = 7;

// Pointers without their offset (bits 2 to 31), which allocate() fills in.
constexpr std::uint64_t struct_pointer(CapnpMessage::StructSize size) {
  return std::uint64_t{size.data} << 32 | std::uint64_t{size.pointers} << 48;
}
constexpr std::uint64_t list_pointer(std::uint64_t elements, std::uint64_t count) {
  return 1 | elements << 32 | count << 35;
}
constexpr std::uint64_t far_pointer(CapnpMessage::Place pad) {
  return 2 | std::uint64_t{pad.word} << 3 | std::uint64_t{pad.segment} << 32;
}
constexpr std::uint64_t with_offset(std::uint64_t pointer, std::uint32_t from, std::uint32_t to) {
  return pointer | std::uint64_t{(to - from - 1) << 2};
}

}  // namespace

std::span<std::uint64_t> HeapSegments::allocate(std::size_t words) {
  return {segments_.emplace_back(std::make_unique<std::uint64_t[]>(words)).get(), words};
}

CapnpMessage::CapnpMessage(StructSize root, SegmentMemory& memory) : memory_(&memory) {
  const Place pointer = allocate_anywhere(1);
  root_ = add_struct(pointer, root);
}

bool CapnpMessage::allocate_in(std::uint32_t segment, std::uint64_t words, Place& place) {
  Segment& home = segments_[segment];
  if (words > home.words.size() - home.used) return false;
  place = {segment, home.used};
  home.used += static_cast<std::uint32_t>(words);
  return true;
}

CapnpMessage::Place CapnpMessage::allocate_anywhere(std::uint64_t words) {
  Place place;
  for (std::uint32_t segment = 0; segment < segments_.size(); ++segment)
    if (allocate_in(segment, words, place)) return place;
  if (words > kMaxSegmentWords)
    throw Error(EFBIG, "The tree has too many entries in one directory or in all for an image.");
  const auto capacity = std::max(static_cast<std::uint32_t>(words), next_capacity_);
  next_capacity_ =
      capacity < kMaxSegmentWords - next_capacity_ ? next_capacity_ + capacity : kMaxSegmentWords;
  segments_.push_back({memory_->allocate(capacity)});
  allocate_in(static_cast<std::uint32_t>(segments_.size() - 1), words, place);
  return place;
}

// In the pointer's own segment if there is room; else anywhere, behind a landing pad.
CapnpMessage::Place CapnpMessage::allocate(Place pointer, std::uint64_t words, std::uint64_t kind) {
  Place place;
  if (allocate_in(pointer.segment, words, place)) {
    at(pointer) = with_offset(kind, pointer.word, place.word);
    return place;
  }
  const Place pad = allocate_anywhere(words + 1);
  at(pointer) = far_pointer(pad);
  at(pad) = with_offset(kind, pad.word, pad.word + 1);
  return pad + 1;
}

CapnpMessage::Place CapnpMessage::add_struct(Place pointer, StructSize size) {
  return allocate(pointer, size.words(), struct_pointer(size));
}

CapnpMessage::Place CapnpMessage::add_struct_list(Place pointer, std::size_t count,
                                                  StructSize element) {
  const std::uint64_t words = std::uint64_t{count} * element.words();
  const Place tag = allocate(pointer, words + 1, list_pointer(kCompositeElements, words));
  at(tag) = struct_pointer(element) | std::uint64_t{count} << 2;
  return tag + 1;
}

void CapnpMessage::add_data(Place pointer, ByteView data) {
  const Place place = allocate(pointer, (data.size() + kWordSize - 1) / kWordSize,
                               list_pointer(kByteElements, data.size()));
  if (!data.empty()) std::memcpy(&at(place), data.data(), data.size());
}

void CapnpMessage::set(Place place, std::uint32_t bit, std::uint32_t width, std::uint64_t value) {
  const std::uint64_t mask = width == 64 ? ~std::uint64_t{0} : (std::uint64_t{1} << width) - 1;
  std::uint64_t& word = at(place + bit / 64);
  word = (word & ~(mask << bit % 64)) | (value & mask) << bit % 64;
}

std::vector<std::uint32_t> CapnpMessage::segment_table() const {
  std::vector<std::uint32_t> table = {static_cast<std::uint32_t>(segments_.size() - 1)};
  for (const auto& segment : segments_) table.push_back(segment.used);
  if (table.size() % 2 != 0) table.push_back(0);
  return table;
}

std::uint64_t CapnpMessage::size() const {
  std::uint64_t size = segment_table().size() * sizeof(std::uint32_t);
  for (const auto& segment : segments_) size += segment.used * kWordSize;
  return size;
}

void CapnpMessage::write_to(const std::function<void(ByteView)>& sink) const {
  const auto table = segment_table();
  sink(std::as_bytes(std::span(table)));
  for (const auto& segment : segments_) {
    for (ByteView rest = std::as_bytes(segment.words.first(segment.used)); !rest.empty();) {
      const auto part = rest.first(std::min(rest.size(), kPartSize));
      sink(part);
      release();
      rest = rest.subspan(part.size());
    }
  }
}

}  // namespace puzzlefs::format
