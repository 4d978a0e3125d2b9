// Chunks as readers want them: verified, uncompressed, in memory, one fetch however many wait.
#pragma once

#include <list>
#include <memory>
#include <mutex>
#include <unordered_map>
#include <vector>

#include "fetch/blob_store.h"
#include "fetch/outcome.h"
#include "format/metadata.h"
#include "format/oci.h"

namespace puzzlefs::fetch {

/// The uncompressed bytes of a chunk, shared by all who read them.
using ChunkData = std::shared_ptr<const Bytes>;

/// Thread-safe. Memory is bounded by `memory_limit` plus what readers hold and what is on its way.
class ChunkStore {
 public:
  static constexpr std::size_t kDefaultMemoryLimit = 32 << 20;

  /// Takes the sizes of the stored chunks from `manifest`. `store` must outlive this object and the
  /// operations started on it.
  ChunkStore(Runtime& runtime, BlobStore& store, const format::Manifest& manifest,
             std::size_t memory_limit = kDefaultMemoryLimit);

  /// The chunk that `piece` lies in. Answers at once, on this thread, when the chunk is in memory;
  /// else from a worker. Fails with CorruptError when the piece lies outside the chunk, or when the
  /// manifest does not list it.
  void read(const format::ChunkRef& piece, Completion<ChunkData> done);

 private:
  struct Recent {
    format::Digest digest;
    ChunkData data;
  };

  Runtime& runtime_;
  BlobStore& store_;
  std::unordered_map<format::Digest, format::Descriptor> chunks_;  // constant after construction
  const std::size_t memory_limit_;

  std::mutex mutex_;  // guards all below
  std::list<Recent> recent_;  // most recently used first
  std::unordered_map<format::Digest, std::list<Recent>::iterator> by_digest_;
  std::unordered_map<format::Digest, std::vector<Completion<ChunkData>>> waiting_;
  std::size_t memory_used_ = 0;
};

}  // namespace puzzlefs::fetch
