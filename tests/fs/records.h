// Inodes of images made for tests, in one line each.
#pragma once

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "../support/metadata_blob.h"
#include "format/metadata.h"
#include "format/metadata_writer.h"

namespace puzzlefs::fs::test {

using Entries = std::vector<std::pair<std::uint64_t, std::string>>;

inline format::InodeRecord record(std::uint64_t number, format::FileType type) {
  return {.ino = format::InodeNumber{number}, .type = type, .permissions = 0644};
}

inline format::InodeRecord directory(std::uint64_t number, const Entries& entries) {
  auto result = record(number, format::FileType::kDirectory);
  result.permissions = 0755;
  for (const auto& [ino, name] : entries) {
    result.entries.push_back({format::InodeNumber{ino}, name});
  }
  return result;
}

inline format::InodeRecord file(std::uint64_t number, std::vector<format::ChunkRef> chunks = {}) {
  auto result = record(number, format::FileType::kRegular);
  result.chunks = std::move(chunks);
  return result;
}

inline format::InodeRecord symlink(std::uint64_t number, const std::string& target) {
  auto result = record(number, format::FileType::kSymlink);
  result.permissions = 0777;
  result.symlink_target = target;
  return result;
}

inline format::InodeRecord whiteout(std::uint64_t number) {
  return record(number, format::FileType::kWhiteout);
}

/// The blob of an image of one layer, its inodes in any order.
inline Bytes one_layer(std::vector<format::InodeRecord> inodes) {
  std::sort(inodes.begin(), inodes.end(),
            [](const auto& a, const auto& b) { return a.ino < b.ino; });
  return format::write_metadata({std::move(inodes)}, {});
}

}  // namespace puzzlefs::fs::test
