#include "fetch/blob_range.h"

#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <utility>

#include "format/error.h"

namespace puzzlefs::fetch {

BlobRange::BlobRange(boost::asio::io_context& loop, std::string what, RangeReceiver on_bytes,
                     Completion<Done> done)
    : loop_(loop), what_(std::move(what)), on_bytes_(std::move(on_bytes)), done_(std::move(done)) {}

void BlobRange::set_paused(bool paused) {
  if (!finished_) control_->set_paused(paused);
}

void BlobRange::cancel() {
  if (finished_) return;
  control_->cancel();
  boost::asio::post(loop_, [self = shared_from_this()] {
    self->finish(std::make_exception_ptr(
        UnavailableError("Cannot " + self->what_ + ": the read was cancelled.")));
  });
}

void BlobRange::take(std::uint64_t offset, ByteView bytes) {
  if (on_bytes_) on_bytes_(offset, bytes);
}

void BlobRange::finish(Outcome<Done> outcome) {
  if (finished_.exchange(true)) return;
  on_bytes_ = nullptr;
  // Out of the way first: it may let go of this.
  const auto done = std::exchange(done_, nullptr);
  done(std::move(outcome));
}

}  // namespace puzzlefs::fetch
