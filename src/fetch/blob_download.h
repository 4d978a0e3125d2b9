// Downloading one blob, or a stretch of it: from where its registry has it, and on from where an
// attempt broke off.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "fetch/blob_source.h"
#include "fetch/http_client.h"
#include "fetch/outcome.h"
#include "fetch/registry_session.h"
#include "fetch/retrier.h"
#include "fetch/transfer_control.h"
#include "fetch/url.h"
#include "format/bytes.h"
#include "format/oci.h"

namespace puzzlefs::fetch {

/// Attempts at one blob, one after the other, perhaps at several servers, since all have the same
/// bytes. What is put together is not verified. Lives on the loop: all calls from there.
class BlobDownload : public std::enable_shared_from_this<BlobDownload> {
 public:
  /// Of the whole blob, which the answer then has as its body.
  BlobDownload(const format::Descriptor& blob, Freshness freshness);
  /// Of `range`, which must lie within the blob and not be empty, as BlobSource::read_range() says.
  /// The answer has no body then.
  BlobDownload(const format::Descriptor& blob, ByteRange range, Freshness freshness,
               RangeReceiver on_bytes, std::shared_ptr<TransferControl> control);

  /// One attempt. Succeeds with 200 when all has come, or with the answer that it was refused with.
  /// Fails with ProgressError when something came that need not be asked for again.
  void attempt(const std::shared_ptr<RegistrySession>& session, const Patience& patience,
               Completion<Answer> done);

 private:
  struct Try {
    std::shared_ptr<RegistrySession> session;
    Patience patience;
    Completion<Answer> done;
    bool by_route = false;  // straight to where an earlier request was redirected to
    bool ranged = false;
    bool again = false;  // after a refusal by a storage host
  };
  // What an answer has of the blob.
  struct Part {
    std::uint64_t at = 0;  // what comes next
    std::uint64_t end = 0;
  };

  void start(Try attempt);
  RegistryRequest request_for(Try& attempt);
  void begin_anew();
  void receive(const Try& attempt, Outcome<Answer> outcome);
  static bool is_refused_elsewhere(const Try& attempt, Outcome<Answer>& outcome);
  static bool has_blob(const Try& attempt, int status);
  Outcome<Answer> result(const Try& attempt, Outcome<Answer>& outcome);
  Answer accept(const Try& attempt, Answer answer);
  Answer go_on_after(const CutShortError& error);
  void take(const Try& attempt, const HttpResponse& head, const std::string& url, ByteView bytes);
  Part begin_part(const Try& attempt, const Url& server, const HttpResponse& head);
  std::optional<Part> announced_part(const HttpResponse& head) const;
  [[noreturn]] void refuse_part(const Try& attempt);
  [[noreturn]] void refuse_size(const Try& attempt, std::optional<std::uint64_t> size) const;
  bool has_come() const { return next_ >= range_.end(); }
  Answer complete(Answer answer);
  [[noreturn]] void fail(const TransportError& error);
  bool is_cancelled() const { return control_ && control_->is_cancelled(); }
  TransportError cancelled() const;
  std::string what() const;

  const format::Digest digest_;
  const std::uint64_t size_;
  const ByteRange range_;
  const Freshness freshness_;
  const RangeReceiver on_bytes_;  // null: they are put together in `got_`
  const std::shared_ptr<TransferControl> control_;

  Bytes got_;                  // the blob's first bytes
  std::uint64_t first_;        // byte that was kept or handed on, or is to be
  std::uint64_t next_;         // one that is wanted
  std::uint64_t most_ = 0;     // bytes that there ever were in between
  std::optional<Url> server_;  // that the last of them came from
  std::optional<Part> part_;   // of the answer under way, once its body has begun
};

}  // namespace puzzlefs::fetch
