// A Cap'n Proto message under construction (https://capnproto.org/encoding.html), for writing
// metadata. It exists because an image's digest depends on where in the message's segments each
// object lies: the Rust library looks for room in every segment, the C++ library's builder only in
// some, and its arena cannot be replaced. Reading uses the library.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "format/bytes.h"

namespace puzzlefs::format {

/// Where the segments of a message lie while it is made.
class SegmentMemory {
 public:
  virtual ~SegmentMemory() = default;
  /// So many words, zeroed, which stay where they are as long as the object. Throws Error.
  virtual std::span<std::uint64_t> allocate(std::size_t words) = 0;
  /// What is in the segments is not needed for a while, little of it ever again.
  virtual void release() {}
};

/// Segments in ordinary memory.
class HeapSegments final : public SegmentMemory {
 public:
  std::span<std::uint64_t> allocate(std::size_t words) override;

 private:
  std::vector<std::unique_ptr<std::uint64_t[]>> segments_;
};

/// Places objects as the Rust `capnp` 0.19 does with its default allocator. Not thread-safe.
class CapnpMessage {
 public:
  /// A word of the message.
  struct Place {
    std::uint32_t segment = 0;
    std::uint32_t word = 0;
  };

  /// The size of a struct: words of data, then pointers.
  struct StructSize {
    std::uint16_t data = 0;
    std::uint16_t pointers = 0;

    constexpr std::uint32_t words() const { return std::uint32_t{data} + pointers; }
  };

  /// A message whose root is a struct of that size. `memory` must outlive it.
  CapnpMessage(StructSize root, SegmentMemory& memory);

  /// The root struct's first word.
  Place root() const { return root_; }

  /// Allocates an object and makes the pointer at `pointer` refer to it. Structs and lists begin
  /// zeroed. Throws Error when the message grows beyond what the encoding can address.
  Place add_struct(Place pointer, StructSize size);
  /// The first element's first word; elements follow one another.
  Place add_struct_list(Place pointer, std::size_t count, StructSize element);
  void add_data(Place pointer, ByteView data);

  /// Stores a field of `width` bits at `bit` of the struct at `place`, as `capnp compile -ocapnp`
  /// gives them. A field does not cross a word.
  void set(Place place, std::uint32_t bit, std::uint32_t width, std::uint64_t value);

  /// SegmentMemory::release().
  void release() const { memory_->release(); }

  /// The size of the message in bytes, framing included.
  std::uint64_t size() const;
  /// Gives the message, in parts, to `sink`: the segment table, then the segments.
  void write_to(const std::function<void(ByteView)>& sink) const;

 private:
  struct Segment {
    std::span<std::uint64_t> words;
    std::uint32_t used = 0;
  };

  Place allocate(Place pointer, std::uint64_t words, std::uint64_t kind);
  bool allocate_in(std::uint32_t segment, std::uint64_t words, Place& place);
  Place allocate_anywhere(std::uint64_t words);
  std::uint64_t& at(Place place) { return segments_[place.segment].words[place.word]; }

  std::vector<std::uint32_t> segment_table() const;

  SegmentMemory* memory_;
  std::vector<Segment> segments_;
  std::uint32_t next_capacity_ = 1024;  // words; SUGGESTED_FIRST_SEGMENT_WORDS
  Place root_;
};

/// The place `words` behind `place`.
constexpr CapnpMessage::Place operator+(CapnpMessage::Place place, std::uint32_t words) {
  return {place.segment, place.word + words};
}

}  // namespace puzzlefs::format
