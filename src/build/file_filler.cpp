#include "build/file_filler.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

#include "build/attributes.h"
#include "format/error.h"

namespace puzzlefs::build {
namespace {

constexpr std::size_t kMaxChunksAhead = 16;
// Bounds the files that are open at a time: each has a piece here.
constexpr std::size_t kMaxPiecesAhead = 256;
constexpr std::size_t kBlockSize = 4096;

bool is_zero(ByteView block) {
  static constexpr std::array<std::byte, kBlockSize> kZeros{};
  return std::memcmp(block.data(), kZeros.data(), block.size()) == 0;
}

void write_all(int fd, ByteView data, std::uint64_t offset, const std::string& path) {
  while (!data.empty()) {
    const ssize_t written = ::pwrite(fd, data.data(), data.size(), static_cast<off_t>(offset));
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) throw_errno("write " + path);
    data = data.subspan(static_cast<std::size_t>(written));
    offset += static_cast<std::uint64_t>(written);
  }
}

// Writes `data` but for the blocks of the file that it fills with zeros: they stay holes.
void write_sparse(int fd, ByteView data, std::uint64_t offset, const std::string& path) {
  std::size_t begin = 0;  // of what is to be written
  std::size_t at = 0;
  while (at < data.size()) {
    const std::size_t to_boundary = kBlockSize - (offset + at) % kBlockSize;
    const std::size_t size = std::min(to_boundary, data.size() - at);
    if (size == kBlockSize && is_zero(data.subspan(at, size))) {
      write_all(fd, data.subspan(begin, at - begin), offset + begin, path);
      begin = at + size;
    }
    at += size;
  }
  write_all(fd, data.subspan(begin), offset + begin, path);
}

}  // namespace

struct FileFiller::File {
  fetch::FileDescriptor fd;
  format::Inode inode;
  std::string path;
  std::uint64_t size;

  void complete(LeftOut& left_out) const {
    // A hole at the end is not part of the file before this.
    if (size > 0 && ::ftruncate(fd.get(), static_cast<off_t>(size)) != 0) {
      throw_errno("write " + path);
    }
    apply_attributes(fd.get(), inode, path, left_out);
  }
};

FileFiller::FileFiller(fetch::ChunkStore& chunks, LeftOut& left_out,
                       std::function<void(std::uint64_t)> on_progress)
    : chunks_(chunks), left_out_(left_out), on_progress_(std::move(on_progress)) {}

FileFiller::~FileFiller() {
  for (const Piece& piece : pieces_) piece.data.wait();
}

void FileFiller::add(fetch::FileDescriptor fd, const format::Inode& inode, std::string path) {
  const auto file =
      std::make_shared<File>(File{std::move(fd), inode, std::move(path), inode.size()});
  std::uint64_t offset = 0;
  const std::uint32_t count = inode.chunk_count();
  for (std::uint32_t index = 0; index < count; ++index) {
    const format::ChunkRef chunk = inode.chunk(index);
    if (chunk.size == 0) continue;
    request(file, offset, chunk);
    offset += chunk.size;
  }
  if (file->size == 0) file->complete(left_out_);
}

void FileFiller::finish() {
  while (!pieces_.empty()) write_next();
}

void FileFiller::request(const std::shared_ptr<File>& file, std::uint64_t file_offset,
                         const format::ChunkRef& chunk) {
  while (pieces_.size() >= kMaxPiecesAhead || chunks_ahead_ >= kMaxChunksAhead) write_next();
  const bool opens_chunk = pieces_.empty() || pieces_.back().chunk.blob != chunk.blob;

  const auto promise = std::make_shared<std::promise<fetch::Outcome<fetch::ChunkData>>>();
  pieces_.push_back({file, file_offset, chunk, opens_chunk, promise->get_future()});
  if (opens_chunk) ++chunks_ahead_;
  chunks_.read(chunk, [promise](fetch::Outcome<fetch::ChunkData> outcome) {
    promise->set_value(std::move(outcome));
  });
}

void FileFiller::write_next() {
  Piece piece = std::move(pieces_.front());
  pieces_.pop_front();
  if (piece.opens_chunk) --chunks_ahead_;

  fetch::Outcome<fetch::ChunkData> outcome = piece.data.get();
  const fetch::ChunkData data = outcome.value();
  const File& file = *piece.file;
  write_sparse(file.fd.get(), ByteView(*data).subspan(piece.chunk.offset, piece.chunk.size),
               piece.file_offset, file.path);
  if (piece.file_offset + piece.chunk.size == file.size) file.complete(left_out_);
  bytes_ += piece.chunk.size;
  if (on_progress_) on_progress_(bytes_);
}

}  // namespace puzzlefs::build
