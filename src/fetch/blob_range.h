// The handle of a ranged read of a registry's blob.
#pragma once

#include <atomic>
#include <memory>
#include <string>

#include "fetch/blob_source.h"
#include "fetch/outcome.h"
#include "fetch/transfer_control.h"

namespace boost::asio {
class io_context;
}

namespace puzzlefs::fetch {

/// Keeps what the reader gave until the read is over, whatever became of the requests for it: a
/// cancelled read waits for no server.
class BlobRange : public RangeRead, public std::enable_shared_from_this<BlobRange> {
 public:
  /// `what` completes "Cannot …".
  BlobRange(boost::asio::io_context& loop, std::string what, RangeReceiver on_bytes,
            Completion<Done> done);

  void set_paused(bool paused) override;
  void cancel() override;

  /// The reins of the requests.
  const std::shared_ptr<TransferControl>& control() const { return control_; }
  /// On the loop.
  void take(std::uint64_t offset, ByteView bytes);
  /// On the loop. What is over already stays as it is.
  void finish(Outcome<Done> outcome);

 private:
  boost::asio::io_context& loop_;
  const std::string what_;
  const std::shared_ptr<TransferControl> control_ = std::make_shared<TransferControl>();
  std::atomic<bool> finished_ = false;

  // Used on the loop; null once it is over.
  RangeReceiver on_bytes_;
  Completion<Done> done_;
};

}  // namespace puzzlefs::fetch
