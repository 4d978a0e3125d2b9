// What an image is made of, in figures.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "fetch/image.h"
#include "format/digest.h"

namespace puzzlefs::build {

struct Summary {
  std::string name;
  format::Digest manifest_digest;
  format::Digest manifest_verity;                 // fs-verity digest of the manifest file
  std::optional<format::Digest> metadata_verity;  // as the manifest records it, if it does
  std::uint64_t metadata_bytes = 0;

  // Of the tree as it is mounted: inodes that a delta hides or deletes do not count.
  std::uint64_t inodes = 0;
  std::uint64_t files = 0;
  std::uint64_t directories = 0;
  std::uint64_t symlinks = 0;
  std::uint64_t others = 0;
  std::uint64_t bytes = 0;  // contents of files, each inode once

  std::uint64_t packs = 0;   // of a packed image; else chunks are blobs of their own
  std::uint64_t chunks = 0;  // in the stream, as the manifest lists them; of packs those in use
  std::uint64_t distinct_chunks = 0;
  std::uint64_t shared_chunks = 0;  // distinct chunks that the stream holds more than once
  std::uint64_t stored_bytes = 0;   // of the distinct chunks as they are stored
};

/// Reads the whole metadata, but no chunk. Throws CorruptError.
Summary summarize(fetch::Image& image);

}  // namespace puzzlefs::build
