#include "fetch/blob_download.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <utility>

#include "format/error.h"

namespace puzzlefs::fetch {
namespace {

// Less is not worth another deadline: a server must not hold us up for ever by single bytes.
constexpr std::uint64_t kLeastProgress = 4 << 10;

// What is reserved at once on the word of the image.
constexpr std::uint64_t kMaxReserve = 64 << 20;

struct ContentRange {
  std::uint64_t first = 0;
  std::uint64_t last = 0;
  std::optional<std::uint64_t> total;
};

// "bytes 100-199/1000", or with "*" for the total (RFC 9110, 14.4).
std::optional<ContentRange> parse_content_range(std::string_view text) {
  constexpr std::string_view kUnit = "bytes ";
  if (!text.starts_with(kUnit)) return std::nullopt;
  text.remove_prefix(kUnit.size());
  const auto number = [&text](char terminator) -> std::optional<std::uint64_t> {
    std::uint64_t value = 0;
    const auto [stop, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc()) return std::nullopt;
    text.remove_prefix(static_cast<std::size_t>(stop - text.data()));
    if (terminator == '\0') return text.empty() ? std::optional(value) : std::nullopt;
    if (!text.starts_with(terminator)) return std::nullopt;
    text.remove_prefix(1);
    return value;
  };
  const auto first = number('-');
  const auto last = first ? number('/') : std::nullopt;
  if (!last || *last < *first) return std::nullopt;
  ContentRange range{*first, *last, std::nullopt};
  if (text == "*") return range;
  range.total = number('\0');
  return range.total ? std::optional(range) : std::nullopt;
}

// What a storage service says to a signature that it takes no longer, and to one for something that
// has been moved.
bool is_refused_signature(int status) {
  constexpr std::array kRefusals{400, 401, 403, 404, 410};
  return std::find(kRefusals.begin(), kRefusals.end(), status) != kRefusals.end();
}

// "bytes */1000", as an answer 416 says how large the whole is.
std::optional<std::uint64_t> parse_unsatisfied_range(std::string_view text) {
  constexpr std::string_view kPrefix = "bytes */";
  if (!text.starts_with(kPrefix)) return std::nullopt;
  text.remove_prefix(kPrefix.size());
  std::uint64_t total = 0;
  const auto [stop, error] = std::from_chars(text.data(), text.data() + text.size(), total);
  if (error != std::errc() || stop != text.data() + text.size()) return std::nullopt;
  return total;
}

// Whether it speaks against the server that was asked.
bool is_fault_of_server(const std::exception_ptr& error) {
  try {
    std::rethrow_exception(error);
  } catch (const CutShortError&) {
    return false;
  } catch (const TransportError& failure) {
    return failure.cause() != TransportError::Cause::kClosed;
  } catch (...) {
    return true;
  }
}

}  // namespace

BlobDownload::BlobDownload(const format::Descriptor& blob, Freshness freshness)
    : BlobDownload(blob, {0, blob.size}, freshness, nullptr, nullptr) {}

BlobDownload::BlobDownload(const format::Descriptor& blob, ByteRange range, Freshness freshness,
                           RangeReceiver on_bytes, std::shared_ptr<TransferControl> control)
    : digest_(blob.digest),
      size_(blob.size),
      range_(range),
      freshness_(freshness),
      on_bytes_(std::move(on_bytes)),
      control_(std::move(control)),
      first_(range.offset),
      next_(range.offset) {}

void BlobDownload::attempt(const std::shared_ptr<RegistrySession>& session,
                           const Patience& patience, Completion<Answer> done) {
  start({session, patience, std::move(done)});
}

void BlobDownload::start(Try attempt) {
  if (is_cancelled()) return attempt.done(std::make_exception_ptr(cancelled()));
  auto request = request_for(attempt);
  part_.reset();
  const auto self = shared_from_this();
  const auto shared = std::make_shared<const Try>(std::move(attempt));
  request.on_body = [self, shared](const HttpResponse& head, const std::string& url,
                                   ByteView bytes) { self->take(*shared, head, url, bytes); };
  request.control = control_;
  shared->session->exchange(
      std::move(request), shared->patience,
      [self, shared](Outcome<Answer> outcome) { self->receive(*shared, std::move(outcome)); });
}

RegistryRequest BlobDownload::request_for(Try& attempt) {
  RegistryRequest request{.target = "blobs/" + digest_.to_string(), .max_body_size = size_};
  if (freshness_ == Freshness::kBypass) {
    request.headers.emplace_back("Cache-Control: no-cache");
  } else if (const auto route = attempt.session->routes().location(digest_)) {
    request.target = route->text();
    attempt.by_route = true;
  }
  const bool is_part = next_ > 0 || range_.end() < size_;
  attempt.ranged = is_part && (!server_ || attempt.session->routes().has_ranges(*server_));
  if (attempt.ranged) {
    const auto last = range_.end() < size_ ? std::to_string(range_.end() - 1) : std::string();
    request.headers.push_back("Range: bytes=" + std::to_string(next_) + "-" + last);
  } else {
    begin_anew();
  }
  return request;
}

// What was handed on cannot be taken back: of that, what comes once more is passed over.
void BlobDownload::begin_anew() {
  if (on_bytes_) return;
  got_.clear();
  next_ = 0;
}

void BlobDownload::receive(const Try& attempt, Outcome<Answer> outcome) {
  if (attempt.by_route && !outcome.ok() && is_fault_of_server(outcome.error())) {
    attempt.session->routes().forget(digest_);
  }
  if (!attempt.again && is_refused_elsewhere(attempt, outcome)) {
    attempt.session->routes().forget(digest_);
    Try second{attempt.session, attempt.patience, attempt.done};
    second.again = true;
    return start(std::move(second));
  }
  attempt.done(result(attempt, outcome));
}

// By a storage host; what the registry itself refuses is refused.
bool BlobDownload::is_refused_elsewhere(const Try& attempt, Outcome<Answer>& outcome) {
  if (!outcome.ok()) return false;
  const auto& answer = outcome.value();
  return is_refused_signature(answer.response.status) &&
         !answer.url.same_origin(attempt.session->base());
}

Outcome<Answer> BlobDownload::result(const Try& attempt, Outcome<Answer>& outcome) {
  try {
    try {
      return accept(attempt, std::move(outcome.value()));
    } catch (const CutShortError& error) {
      return go_on_after(error);
    }
  } catch (const std::exception&) {
    return std::current_exception();
  }
}

// Or a part of it, if that was asked for: one that comes unasked is as good as a refusal.
bool BlobDownload::has_blob(const Try& attempt, int status) {
  return status == 200 || (attempt.ranged && status == 206);
}

Answer BlobDownload::accept(const Try& attempt, Answer answer) {
  const int status = answer.response.status;
  if (attempt.ranged && status == 416) {
    if (on_bytes_) {
      refuse_size(attempt, parse_unsatisfied_range(answer.response.header("content-range")));
    }
    attempt.session->routes().note_no_ranges(answer.url);
    throw TransportError(TransportError::Cause::kOther, what(),
                         "the server says that the blob ends where it broke off");
  }
  if (!has_blob(attempt, status)) return answer;
  if (!part_) part_ = begin_part(attempt, answer.url, answer.response);
  if (has_come()) return complete(std::move(answer));
  if (status == 200) {
    if (on_bytes_) refuse_size(attempt, part_->at);
    return complete(std::move(answer));
  }
  fail(TransportError(TransportError::Cause::kOther, what(), "only a part of it was sent"));
}

Answer BlobDownload::go_on_after(const CutShortError& error) {
  if (part_ && has_come()) return complete({std::move(error.part()), Url::parse(error.url())});
  fail(error);
}

// Keeps or hands on what came, of that which is wanted still.
void BlobDownload::take(const Try& attempt, const HttpResponse& head, const std::string& url,
                        ByteView bytes) {
  if (is_cancelled()) throw cancelled();
  if (!has_blob(attempt, head.status)) return;
  if (!part_) part_ = begin_part(attempt, Url::parse(url), head);
  if (bytes.size() > part_->end - part_->at) refuse_part(attempt);
  const auto at = std::exchange(part_->at, part_->at + bytes.size());
  if (part_->at <= next_) return;
  if (at < next_) bytes = bytes.subspan(static_cast<std::size_t>(next_ - at));
  const auto offset = std::exchange(next_, part_->at);
  if (on_bytes_) return on_bytes_(offset, bytes);
  if (got_.empty()) got_.reserve(static_cast<std::size_t>(std::min(size_, kMaxReserve)));
  got_.insert(got_.end(), bytes.begin(), bytes.end());
}

BlobDownload::Part BlobDownload::begin_part(const Try& attempt, const Url& server,
                                            const HttpResponse& head) {
  server_ = server;
  if (!server.same_origin(attempt.session->base())) {
    attempt.session->routes().learn(digest_, server);
  }
  if (head.status == 206) {
    const auto part = announced_part(head);
    if (!part) refuse_part(attempt);
    return *part;
  }
  if (!on_bytes_) {
    if (attempt.ranged) attempt.session->routes().note_no_ranges(server);
    begin_anew();
  } else if (next_ == first_) {
    first_ = next_ = 0;
  }
  return {0, size_};
}

// The part that was asked for, or its beginning; nothing for another one.
std::optional<BlobDownload::Part> BlobDownload::announced_part(const HttpResponse& head) const {
  const auto range = parse_content_range(head.header("content-range"));
  if (!range || range->first != next_ || range->last >= range_.end() ||
      range->total.value_or(size_) != size_) {
    return std::nullopt;
  }
  return Part{range->first, range->last + 1};
}

void BlobDownload::refuse_part(const Try& attempt) {
  attempt.session->routes().note_no_ranges(*server_);
  throw TransportError(TransportError::Cause::kOther, what(),
                       "the server sends another part than was asked for");
}

void BlobDownload::refuse_size(const Try& attempt, std::optional<std::uint64_t> size) const {
  const auto& name = attempt.session->name();
  throw CorruptError(
      "Cannot " + what() + " from " + name.host + "/" + name.repository +
      ": the image says that it has " + std::to_string(size_) + " bytes, the server that it " +
      (size ? "has " + std::to_string(*size) : "ends before byte " + std::to_string(next_)) + ".");
}

Answer BlobDownload::complete(Answer answer) {
  answer.response.status = 200;
  answer.response.body = std::move(got_);
  return answer;
}

void BlobDownload::fail(const TransportError& error) {
  const auto come = next_ - first_;
  // That it came to nothing while it was held back is not the server's fault.
  const bool was_paused = control_ && control_->take_was_paused();
  if (come < most_ + kLeastProgress && !was_paused) throw TransportError(error);
  most_ = come;
  throw ProgressError(error);
}

TransportError BlobDownload::cancelled() const {
  return {TransportError::Cause::kClosed, what(), "It is not wanted any more"};
}

std::string BlobDownload::what() const {
  const auto blob = "blob " + digest_.to_string();
  if (!on_bytes_) return "get " + blob;
  return "get bytes " + std::to_string(range_.offset) + " to " + std::to_string(range_.end() - 1) +
         " of " + blob;
}

}  // namespace puzzlefs::fetch
