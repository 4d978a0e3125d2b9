// Filling extracted files with their contents, chunks ahead of the disk.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <future>
#include <memory>
#include <string>

#include "build/left_out.h"
#include "fetch/chunk_store.h"
#include "fetch/file_descriptor.h"
#include "format/metadata.h"

namespace puzzlefs::build {

/// Writes files piece by piece in the order given, and asks for the chunks of the next pieces
/// meanwhile, across files. Not thread-safe. The destructor waits for the chunks still asked for.
class FileFiller {
 public:
  /// `chunks` and `left_out`, which apply_attributes() gets, must outlive the filler.
  /// `on_progress` gets the bytes written so far.
  FileFiller(fetch::ChunkStore& chunks, LeftOut& left_out,
             std::function<void(std::uint64_t)> on_progress);
  ~FileFiller();
  FileFiller(const FileFiller&) = delete;
  FileFiller& operator=(const FileFiller&) = delete;

  /// Fills the empty file open for writing at `fd` with the contents of `inode`, then gives it its
  /// attributes: now or at a later call. Throws Error, naming the file, not necessarily this one.
  void add(fetch::FileDescriptor fd, const format::Inode& inode, std::string path);
  /// Completes all files.
  void finish();

  std::uint64_t bytes() const { return bytes_; }

 private:
  struct File;
  struct Piece {
    std::shared_ptr<File> file;
    std::uint64_t file_offset;
    format::ChunkRef chunk;
    bool opens_chunk;  // the piece before lies in another chunk
    std::future<fetch::Outcome<fetch::ChunkData>> data;
  };

  void request(const std::shared_ptr<File>& file, std::uint64_t file_offset,
               const format::ChunkRef& chunk);
  void write_next();

  fetch::ChunkStore& chunks_;
  LeftOut& left_out_;
  const std::function<void(std::uint64_t)> on_progress_;
  std::deque<Piece> pieces_;      // asked for, not written
  std::size_t chunks_ahead_ = 0;  // of pieces_, those that open a chunk
  std::uint64_t bytes_ = 0;
};

}  // namespace puzzlefs::build
