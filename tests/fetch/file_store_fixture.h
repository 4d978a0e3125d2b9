// Processes that share a cache with whole files.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "../support/temp_dir.h"
#include "fetch/cached_recipes.h"
#include "fetch/file_store.h"
#include "format/verity.h"
#include "memory_source.h"

namespace puzzlefs::fetch {

inline constexpr std::size_t kChunkSize = 64 << 10;
inline constexpr std::size_t kLargeSize = 10 * kChunkSize + 123;

inline std::string random_text(std::size_t size, unsigned seed) {
  std::minstd_rand random(seed);
  std::string text(size, '\0');
  for (auto& letter : text) letter = static_cast<char>(random());
  return text;
}

inline std::string read_all(const FileDescriptor& file) {
  if (!file) return "(no file)";
  struct stat status {};
  ::fstat(file.get(), &status);
  std::string text(static_cast<std::size_t>(status.st_size), '\0');
  const auto got = ::pread(file.get(), text.data(), text.size(), 0);
  EXPECT_EQ(got, status.st_size);
  return text;
}

inline ino_t inode_of(const FileDescriptor& file) {
  struct stat status {};
  EXPECT_EQ(::fstat(file.get(), &status), 0);
  return status.st_ino;
}

/// All that is not a directory.
inline std::vector<std::filesystem::path> entries_below(const std::filesystem::path& directory) {
  std::vector<std::filesystem::path> paths;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(directory)) {
    if (entry.is_symlink() || !entry.is_directory()) paths.push_back(entry.path());
  }
  return paths;
}

/// What goes on in the background is done some time.
template <class Condition>
bool comes_true(const Condition& condition) {
  for (int i = 0; i < 2000; ++i) {
    if (condition()) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  return false;
}

/// What a process has that has mounted an image.
struct Process {
  Process(const std::filesystem::path& directory, BlobSource& source,
          const format::Manifest& manifest, const CacheLimits& limits)
      : cache(directory, limits),
        blobs(runtime, source, &cache),
        chunks(blobs, manifest),
        files(std::make_unique<FileStore>(runtime, cache, chunks)) {}

  FileDescriptor open(const FilePieces& pieces) const {
    return wait_for<FileDescriptor>([&](auto done) { files->open(pieces, std::move(done)); });
  }
  std::string text(const FilePieces& pieces) const { return read_all(open(pieces)); }
  /// As a reader does it piece by piece.
  void read_chunks(const FilePieces& pieces) {
    for (const auto& piece : pieces) {
      wait_for<ChunkData>([&](auto done) { chunks.read(piece, std::move(done)); });
    }
    EXPECT_TRUE(keeps(pieces));
  }
  /// A reader has a chunk before the cache has it. Whether the cache gets them all.
  bool keeps(const FilePieces& pieces) const {
    return comes_true([&] {
      return std::all_of(pieces.begin(), pieces.end(),
                         [&](const auto& piece) { return cache.has(piece.blob); });
    });
  }
  bool comes_whole(const FilePieces& pieces) const {
    return comes_true([&] { return static_cast<bool>(open(pieces)); });
  }

  Runtime runtime{4};
  Cache cache;
  BlobStore blobs;
  ChunkStore chunks;
  std::unique_ptr<FileStore> files;
};

class FileStoreTest : public ::testing::Test {
 protected:
  /// A file of chunks of that size, which the image's registry has.
  FilePieces add(std::string_view content, std::size_t chunk_size = kChunkSize) {
    FilePieces pieces;
    for (std::size_t i = 0; i < content.size(); i += chunk_size) {
      const auto chunk = source_.add(content.substr(i, chunk_size));
      manifest_.layers.push_back(chunk);
      pieces.push_back({.blob = chunk.digest, .offset = 0, .size = chunk.size});
    }
    return pieces;
  }
  std::unique_ptr<Process> start(const CacheLimits& limits = {.size = 1 << 30, .reserve = 0}) {
    return std::make_unique<Process>(directory_, source_, manifest_, limits);
  }
  /// A process that can fetch nothing.
  std::unique_ptr<Process> start_offline() {
    return std::make_unique<Process>(directory_, nothing_, manifest_,
                                     CacheLimits{.size = 1 << 30, .reserve = 0});
  }

  std::vector<std::filesystem::path> files() const { return entries_below(directory_ / "files"); }
  std::vector<std::filesystem::path> recipes() const {
    return entries_below(directory_ / "recipes");
  }
  std::filesystem::path file_of(std::string_view content) const {
    const auto hex = format::verity_digest(as_bytes(content)).hex();
    return directory_ / "files" / hex.substr(0, 2) / hex;
  }
  std::filesystem::path recipe_of(const FilePieces& pieces) const {
    const auto hex = fetch::recipe_of(pieces).key.hex();
    return directory_ / "recipes" / hex.substr(0, 2) / hex;
  }
  std::filesystem::path refuge_of(std::string_view content) const {
    return directory_ / "quarantine" / ("file-" + format::verity_digest(as_bytes(content)).hex());
  }
  std::filesystem::path blob_of(const format::ChunkRef& piece) const {
    const auto hex = piece.blob.hex();
    return directory_ / "blobs/sha256" / hex.substr(0, 2) / hex;
  }
  /// Another file of other bytes in its place.
  void falsify(std::string_view content) const {
    const auto path = file_of(content);
    ASSERT_TRUE(std::filesystem::remove(path));
    std::string other(content);
    other[other.size() / 2] ^= 1;
    std::ofstream(path, std::ios::binary) << other;
  }
  void forget_blobs() const {
    for (const auto& blob : entries_below(directory_ / "blobs")) std::filesystem::remove(blob);
  }
  /// A large file that is whole in the cache.
  FilePieces make_large(Process& process, const FilePieces& pieces) {
    process.read_chunks(pieces);
    process.files->closed(pieces);
    EXPECT_TRUE(process.comes_whole(pieces));
    return pieces;
  }

  test::TempDir temp_;
  const std::filesystem::path directory_ = temp_ / "cache";
  MemorySource source_;
  MemorySource nothing_;
  format::Manifest manifest_;
  const std::string small_ = random_text(5000, 1);
  const std::string large_ = random_text(kLargeSize, 2);
};

inline constexpr CacheLimits kNoRoom{.size = 1 << 30, .reserve = std::uint64_t{1} << 60};

}  // namespace puzzlefs::fetch
