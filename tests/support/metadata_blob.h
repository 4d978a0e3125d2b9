// Metadata as bytes, of records that are all in memory.
#pragma once

#include <utility>
#include <vector>

#include "format/metadata_writer.h"

namespace puzzlefs::format {

inline Bytes to_bytes(const CapnpMessage& message) {
  Bytes bytes;
  message.write_to([&](ByteView part) { bytes.insert(bytes.end(), part.begin(), part.end()); });
  return bytes;
}

/// A blob of version 3.
inline Bytes write_metadata(std::vector<std::vector<InodeRecord>> layers,
                            const std::vector<VerityRecord>& verity) {
  std::vector<LayerSource> sources;
  for (auto& layer : layers) sources.push_back(source_of(layer));
  HeapSegments memory;
  return to_bytes(write_metadata(sources, verity, memory));
}

/// A blob of version 4.
inline Bytes write_packed_metadata(std::vector<InodeRecord> inodes,
                                   const PackedContents& contents) {
  HeapSegments memory;
  return to_bytes(write_packed_metadata(source_of(inodes), contents, memory));
}

}  // namespace puzzlefs::format
