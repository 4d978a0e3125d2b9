// Files of an image as whole files on this machine, which the kernel can read by itself.
#pragma once

#include <vector>

#include "fetch/file_descriptor.h"
#include "fetch/outcome.h"
#include "format/metadata.h"

namespace puzzlefs::fetch {

/// All pieces of a file, in order. None is empty.
using FilePieces = std::vector<format::ChunkRef>;

/// Thread-safe.
class WholeFiles {
 public:
  virtual ~WholeFiles() = default;

  /// The file that `pieces` make up, open for reading and with verified bytes; or an empty
  /// descriptor if it is to be read piece by piece for now. It stays what and where it is as long
  /// as the descriptor is open. A small file is made first if it is not there, which may take
  /// fetches; then the answer comes later, from a worker, and an error of the fetch is the
  /// answer's. In all other cases it comes at once, on this thread.
  virtual void open(FilePieces pieces, Completion<FileDescriptor> done) = 0;

  /// One who asked for that file and has no answer yet does not want it any more. When that goes
  /// for all who did the answer may be GivenUpError, which those get too who ask just then.
  virtual void give_up(const FilePieces& /*pieces*/) {}

  /// Nobody has the file open any more that was read piece by piece. If all its chunks are on this
  /// machine by now it is made whole in the background, for the next one who opens it.
  virtual void closed(FilePieces pieces) = 0;
};

}  // namespace puzzlefs::fetch
