// Chunks out of packs: what is wanted is put together into few ranged requests, the most urgent
// first.
#pragma once

#include <atomic>
#include <cstdint>
#include <exception>
#include <map>
#include <memory>
#include <mutex>
#include <vector>

#include "fetch/blob_source.h"
#include "fetch/concurrency.h"
#include "fetch/file_descriptor.h"
#include "fetch/fs_verity.h"
#include "fetch/in_flight.h"
#include "fetch/outcome.h"
#include "fetch/pack_request.h"
#include "fetch/priority.h"
#include "fetch/runtime.h"
#include "format/bytes.h"
#include "format/metadata.h"
#include "format/oci.h"

namespace puzzlefs::fetch {

/// Gets chunks of one packed image, uncompressed but not verified: BlobStore does that.
/// Thread-safe.
class PackReader {
 public:
  /// All must outlive the reader and what is asked of it. Throws CorruptError if the image's table
  /// of packs is malformed.
  PackReader(Runtime& runtime, BlobSource& source, const format::Metadata& metadata);
  /// As close(). Waits for requests that are under way, so close the source first.
  ~PackReader();
  PackReader(const PackReader&) = delete;
  PackReader& operator=(const PackReader&) = delete;

  /// From now on packs that are files of the source are checked for fs-verity when they are opened.
  /// `check` must outlive the reader; call this before other threads use it.
  void use_fs_verity(FsVerityCheck& check) { fs_verity_ = &check; }

  /// The bytes of a chunk. `done` runs on a worker, or on this thread for a pack on this machine.
  /// Fails as BlobSource::read_range(), with CorruptError if what came cannot be decompressed, and
  /// with GivenUpError once nobody wants it.
  void get(format::ChunkIndex index, const SharedPriority& priority, Freshness freshness,
           Completion<Bytes> done);
  /// The priority of a chunk that may be asked for already has risen.
  void raised();
  /// Chunks that may be asked for already have fallen to kNobody. Unless they rise again first,
  /// they are not asked for, nor what was to be read ahead beside them; and a request under way for
  /// nothing else is cancelled. Does not block.
  void given_up();

  /// While one exists nothing is asked of the source, so that what is wanted together goes into one
  /// request. To be held shortly.
  class Hold {
   public:
    explicit Hold(PackReader& owner);
    ~Hold();
    Hold(const Hold&) = delete;
    Hold& operator=(const Hold&) = delete;

   private:
    PackReader& owner_;
    const InFlight::Token token_;
  };

  /// Whether the source gives parts of packs. If not, whoever wants a chunk had better want all of
  /// its pack.
  bool has_ranges() const { return has_ranges_; }
  /// Whether packs are files on this machine, so that asking for more than is wanted gains nothing.
  bool is_local() const { return is_local_; }

  /// Fails what waits and what is to come with UnavailableError. Does not block.
  void close();

 private:
  using Queue = std::map<format::ChunkIndex, WantedChunk>;

  void read_local(const WantedChunk& wanted);
  std::shared_ptr<const FileDescriptor> local_pack(std::uint32_t pack);
  std::exception_ptr enqueue(WantedChunk& wanted);
  void dispatch();
  std::shared_ptr<PackRequest> next_request();                // with mutex_ held
  Queue::iterator most_urgent();                              // with mutex_ held
  Queue::iterator find_given_up();                            // with mutex_ held
  bool may_start(Priority priority) const;                    // with mutex_ held
  std::vector<WantedChunk> take_range(Queue::iterator seed);  // with mutex_ held
  void begin(const std::shared_ptr<PackRequest>& request);
  void finish(const std::shared_ptr<PackRequest>& request);
  std::exception_ptr error_of(const PackRequest& request, const Outcome<Done>& outcome);
  void count_end();                      // with mutex_ held
  void steer();                          // with mutex_ held
  void cancel_given_up();                // with mutex_ held
  void pause_all_but_the_most_urgent();  // with mutex_ held

  Runtime& runtime_;
  BlobSource& source_;
  const format::Metadata& metadata_;
  const bool is_local_;
  FsVerityCheck* fs_verity_ = nullptr;
  std::atomic<bool> has_ranges_ = true;
  std::atomic<std::uint64_t> received_ = 0;  // bytes

  std::mutex mutex_;  // guards all below
  Queue queue_;       // what waits for a request, in the order in which it lies in the packs
  std::vector<std::shared_ptr<PackRequest>> active_;
  std::map<std::uint32_t, std::shared_ptr<const FileDescriptor>> local_packs_;
  std::uint64_t next_order_ = 0;
  Concurrency concurrency_;
  std::uint64_t setbacks_;  // of the source, that were looked at
  unsigned holds_ = 0;
  bool closed_ = false;

  InFlight in_flight_;  // requests, and calls that may begin one
};

}  // namespace puzzlefs::fetch
