#include "build/inode_spool.h"

#include <algorithm>
#include <cstring>
#include <span>
#include <string>
#include <type_traits>
#include <utility>

namespace puzzlefs::build {
namespace {

// How much is gathered before it is written, and how much is read at once.
constexpr std::size_t kWritten = 256 << 10;
constexpr std::size_t kRead = 16 << 10;

// An inode in the file: its size in bytes, as a number of this type, then what encode() makes.
using SizePrefix = std::uint64_t;

class Encoder {
 public:
  explicit Encoder(Bytes& out) : out_(out) {}

  template <class T>
  void put(const T& value) {
    static_assert(std::is_trivially_copyable_v<T>);
    append(std::as_bytes(std::span(&value, 1)));
  }
  void put(const std::string& text) {
    put(text.size());
    append(as_bytes(text));
  }
  void put(const format::DirEntryRecord& entry) {
    put(entry.ino);
    put(entry.name);
  }
  void put(const format::XattrRecord& xattr) {
    put(xattr.key);
    put(xattr.value);
  }
  template <class T>
  void put(const std::vector<T>& values) {
    put(values.size());
    for (const T& value : values) put(value);
  }

 private:
  void append(ByteView bytes) { out_.insert(out_.end(), bytes.begin(), bytes.end()); }

  Bytes& out_;
};

// Reads what an Encoder wrote.
class Decoder {
 public:
  explicit Decoder(ByteView in) : in_(in) {}

  template <class T>
  void take(T& value) {
    static_assert(std::is_trivially_copyable_v<T>);
    std::memcpy(&value, take_bytes(sizeof(T)).data(), sizeof(T));
  }
  void take(std::string& text) { text = as_text(take_bytes(take_size())); }
  void take(format::DirEntryRecord& entry) {
    take(entry.ino);
    take(entry.name);
  }
  void take(format::XattrRecord& xattr) {
    take(xattr.key);
    take(xattr.value);
  }
  template <class T>
  void take(std::vector<T>& values) {
    values.resize(take_size());
    for (T& value : values) take(value);
  }

 private:
  std::size_t take_size() {
    std::size_t size = 0;
    take(size);
    return size;
  }
  ByteView take_bytes(std::size_t size) {
    const ByteView bytes = in_.first(size);
    in_ = in_.subspan(size);
    return bytes;
  }

  ByteView in_;
};

// Calls `visit` with all that an inode consists of.
template <class Inode, class Visit>
void for_each_part(Inode& inode, const Visit& visit) {
  auto& record = inode.record;
  visit(record.ino);
  visit(record.type);
  visit(record.uid);
  visit(record.gid);
  visit(record.permissions);
  visit(record.device);
  visit(record.entries);
  visit(record.chunks);
  visit(record.symlink_target);
  visit(record.xattrs);
  visit(record.mtime);
  visit(record.link_count);
  visit(inode.contents);
}

}  // namespace

std::uint64_t InodeSpool::File::add(const SpooledInode& inode) {
  const std::size_t start = buffer_.size();
  const std::uint64_t offset = file_.size() + start;
  Encoder encoder(buffer_);
  encoder.put(SizePrefix{0});
  for_each_part(inode, [&encoder](const auto& part) { encoder.put(part); });
  const SizePrefix size = buffer_.size() - start - sizeof(SizePrefix);
  std::memcpy(&buffer_[start], &size, sizeof(size));
  if (buffer_.size() >= kWritten) flush();
  return offset;
}

void InodeSpool::File::flush() {
  file_.append(buffer_);
  buffer_.clear();
}

void InodeSpool::File::finish() {
  flush();
  buffer_.shrink_to_fit();  // a folder of a million names may have been in it
}

SpooledInode InodeSpool::File::read(std::uint64_t& offset) {
  SizePrefix size = 0;
  std::memcpy(&size, look_at(offset, sizeof(size)).data(), sizeof(size));
  offset += sizeof(size);
  Decoder decoder(look_at(offset, size));
  offset += size;
  SpooledInode inode;
  for_each_part(inode, [&decoder](auto& part) { decoder.take(part); });
  return inode;
}

// The bytes at `offset` of the file, valid until the next call.
ByteView InodeSpool::File::look_at(std::uint64_t offset, std::size_t size) {
  const bool is_there = offset >= buffer_offset_ && offset - buffer_offset_ <= buffer_.size() &&
                        size <= buffer_.size() - (offset - buffer_offset_);
  if (!is_there) {
    buffer_.resize(std::min<std::uint64_t>(std::max(size, kRead), file_.size() - offset));
    file_.read(offset, buffer_);
    buffer_offset_ = offset;
  }
  return ByteView(buffer_).subspan(offset - buffer_offset_, size);
}

void InodeSpool::add(const SpooledInode& inode) {
  const format::InodeNumber number = inode.record.ino;
  ++size_;
  if (!highest_ || number > *highest_) {
    ascending_.add(inode);
    highest_ = number;
  } else {
    places_.push_back({number, others_.add(inode)});
  }
}

void InodeSpool::sort() {
  ascending_.finish();
  others_.finish();
  std::sort(places_.begin(), places_.end(),
            [](const Place& a, const Place& b) { return a.number < b.number; });
  rewind();
}

void InodeSpool::rewind() {
  next_ = 0;
  ascending_offset_ = 0;
  next_place_ = 0;
  read_ahead();
}

void InodeSpool::read_ahead() {
  ahead_.reset();
  if (ascending_.has(ascending_offset_)) ahead_ = ascending_.read(ascending_offset_);
}

SpooledInode InodeSpool::get(std::uint32_t place) {
  if (place == 0 && next_ != 0) rewind();
  ++next_;
  const bool is_other =
      next_place_ < places_.size() && (!ahead_ || places_[next_place_].number < ahead_->record.ino);
  if (is_other) {
    std::uint64_t offset = places_[next_place_++].offset;
    return others_.read(offset);
  }
  SpooledInode inode = std::move(*ahead_);
  read_ahead();
  return inode;
}

}  // namespace puzzlefs::build
