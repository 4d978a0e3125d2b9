// One request on its way. The callbacks are entered from C: nothing may be thrown out of them.
#include "fetch/http_transfer.h"

#include <spdlog/spdlog.h>
#include <sys/types.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <cstring>
#include <new>
#include <system_error>
#include <utility>

#include "fetch/printable.h"

namespace puzzlefs::fetch {
namespace {

constexpr std::size_t kMaxHeaderSize = 64 << 10;
// What is reserved at once on the word of the server.
constexpr std::uint64_t kMaxReserve = 64 << 20;

template <class Value>
void set_option(CURL* easy, CURLoption option, Value value) {
  const CURLcode code = curl().easy_setopt(easy, option, value);
  if (code == CURLE_OUT_OF_MEMORY) throw std::bad_alloc();
  if (code != CURLE_OK) {
    throw Error(EINVAL, std::string("The HTTP request cannot be made: ") +
                            curl().easy_strerror(code) + ".");
  }
}

std::string_view trim(std::string_view text) {
  const auto first = text.find_first_not_of(" \t\r\n");
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(" \t\r\n") - first + 1);
}

std::string lower(std::string_view text) {
  std::string result(text);
  for (char& c : result) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return result;
}

/// Whether a server refused the client's certificate or the lack of one (RFC 8446, 6.2). With
/// TLS 1.3 that comes only when the answer is read, as an alert for which libcurl has no code of
/// its own.
bool is_certificate_alert(std::string_view reason) {
  const auto has = [&](std::string_view part) {
    return reason.find(part) != std::string_view::npos;
  };
  return has(" alert ") && (has("certificate") || has("unknown ca") || has("access denied"));
}

long response_status(CURL* easy) {
  long status = 0;
  curl().easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &status);
  return status;
}

TransportError::Cause cause_of(CURLcode code) {
  switch (code) {
    case CURLE_SSL_CONNECT_ERROR:
      return TransportError::Cause::kTls;
    case CURLE_OPERATION_TIMEDOUT:   // while connecting
    case CURLE_ABORTED_BY_CALLBACK:  // as it stalls
      return TransportError::Cause::kTimeout;
    default:
      return TransportError::Cause::kOther;
  }
}

}  // namespace

HttpTransfer::HttpTransfer(EasyHandle easy, HttpRequest request, const HttpOptions& options,
                           const ServerCertificates& certificates)
    : easy_(std::move(easy)), stats_(options.stats), request_(std::move(request)) {
  set_connection_options(options);
  set_certificates(options, certificates);
  set_request_options();
  set_body();
}

void HttpTransfer::set_connection_options(const HttpOptions& options) {
  CURL* const easy = easy_.get();
  set_option(easy, CURLOPT_NOSIGNAL, 1L);
  // A name server that does not answer must not hold up the loop when a transfer is given up.
  set_option(easy, CURLOPT_QUICK_EXIT, 1L);
  set_option(easy, CURLOPT_PROTOCOLS_STR, "http,https");
  set_option(easy, CURLOPT_HTTP_VERSION, static_cast<long>(CURL_HTTP_VERSION_2TLS));
  // Rather a stream of a connection that is being made than one more connection. Not for plain
  // HTTP, where there are no streams and libcurl would wait for the first answer's end to see it.
  set_option(easy, CURLOPT_PIPEWAIT, request_.url.starts_with("https:") ? 1L : 0L);
  set_option(easy, CURLOPT_SSLVERSION, static_cast<long>(CURL_SSLVERSION_TLSv1_2));
  set_option(easy, CURLOPT_TCP_KEEPALIVE, 1L);
  set_option(easy, CURLOPT_FOLLOWLOCATION, 0L);
  // Refused on a used handle that still has the buffer of its last transfer, as after HTTP/2: that
  // one serves as well.
  curl().easy_setopt(easy, CURLOPT_BUFFERSIZE, 128L << 10);
  set_option(easy, CURLOPT_USERAGENT, options.user_agent.c_str());
  // No CURLOPT_TIMEOUT: it would count the time in the queue and punish large blobs.
  set_option(easy, CURLOPT_CONNECTTIMEOUT, static_cast<long>(request_.connect_timeout.count()));
  // libcurl averages the speed of the last seconds, so that a transfer that was fast ends late:
  // this only makes it call on_progress() each second.
  set_option(easy, CURLOPT_LOW_SPEED_LIMIT, 1L);
  set_option(easy, CURLOPT_LOW_SPEED_TIME, static_cast<long>(request_.stall_timeout.count()));
  set_option(easy, CURLOPT_NOPROGRESS, 0L);
  set_option(easy, CURLOPT_XFERINFOFUNCTION, &HttpTransfer::on_progress);
  set_option(easy, CURLOPT_XFERINFODATA, static_cast<void*>(this));
}

void HttpTransfer::set_certificates(const HttpOptions& options,
                                    const ServerCertificates& certificates) {
  CURL* const easy = easy_.get();
  if (!request_.verify_server) {
    set_option(easy, CURLOPT_SSL_VERIFYPEER, 0L);
    set_option(easy, CURLOPT_SSL_VERIFYHOST, 0L);
  }
  if (!options.ca_file.empty()) set_option(easy, CURLOPT_CAINFO, options.ca_file.c_str());
  if (!certificates.authorities.empty()) {
    // In place of the system's file, which is part of it.
    curl_blob authorities{};
    authorities.data = const_cast<char*>(certificates.authorities.data());
    authorities.len = certificates.authorities.size();
    authorities.flags = CURL_BLOB_NOCOPY;
    set_option(easy, CURLOPT_CAINFO_BLOB, &authorities);
    own_authorities_ = true;
  }
  if (!certificates.client_chain.empty()) {
    set_option(easy, CURLOPT_SSLCERT, certificates.client_chain.c_str());
    set_option(easy, CURLOPT_SSLKEY, certificates.client_key.c_str());
  }
}

void HttpTransfer::set_request_options() {
  CURL* const easy = easy_.get();
  set_option(easy, CURLOPT_URL, request_.url.c_str());
  if (!request_.unix_socket.empty()) {
    set_option(easy, CURLOPT_UNIX_SOCKET_PATH, request_.unix_socket.c_str());
    set_option(easy, CURLOPT_NOPROXY, "*");
  }
  set_option(easy, CURLOPT_ERRORBUFFER, error_text_.data());
  set_option(easy, CURLOPT_HEADERFUNCTION, &HttpTransfer::on_header);
  set_option(easy, CURLOPT_HEADERDATA, static_cast<void*>(this));
  set_option(easy, CURLOPT_WRITEFUNCTION, &HttpTransfer::on_body);
  set_option(easy, CURLOPT_WRITEDATA, static_cast<void*>(this));
  for (const auto& header : request_.headers) add_header(header);
}

void HttpTransfer::add_header(const std::string& header) {
  curl_slist* const longer = curl().slist_append(headers_.get(), header.c_str());
  if (longer == nullptr) throw std::bad_alloc();
  static_cast<void>(headers_.release());  // it is part of the longer list now
  headers_.reset(longer);
}

void HttpTransfer::set_body() {
  CURL* const easy = easy_.get();
  if (const auto* bytes = std::get_if<std::shared_ptr<const Bytes>>(&request_.body)) {
    body_size_ = (*bytes)->size();
  } else if (const auto* file = std::get_if<FileBody>(&request_.body)) {
    file_ = open_regular_file(file->path);
    body_size_ = file->size;
  }
  if (!std::holds_alternative<std::monostate>(request_.body)) {
    set_option(easy, CURLOPT_UPLOAD, 1L);
    set_option(easy, CURLOPT_INFILESIZE_LARGE, static_cast<curl_off_t>(body_size_));
    set_option(easy, CURLOPT_READFUNCTION, &HttpTransfer::on_read);
    set_option(easy, CURLOPT_READDATA, static_cast<void*>(this));
    set_option(easy, CURLOPT_SEEKFUNCTION, &HttpTransfer::on_seek);
    set_option(easy, CURLOPT_SEEKDATA, static_cast<void*>(this));
    // Not to wait for "100 Continue", which many servers never send.
    add_header("Expect:");
  } else if (request_.method == "HEAD") {
    set_option(easy, CURLOPT_NOBODY, 1L);
  } else if (request_.method == "POST" || request_.method == "PUT") {
    set_option(easy, CURLOPT_POSTFIELDS, "");
    set_option(easy, CURLOPT_POSTFIELDSIZE, 0L);
    add_header("Content-Type:");  // libcurl would call it a form
  }
  if (request_.method != "HEAD") {
    set_option(easy, CURLOPT_CUSTOMREQUEST, request_.method.c_str());
  }
  set_option(easy, CURLOPT_HTTPHEADER, headers_.get());
}

EasyHandle HttpTransfer::release_easy() {
  curl().easy_reset(easy_.get());
  return std::move(easy_);
}

std::string HttpTransfer::what() const {
  const char* const verb = request_.method == "GET" || request_.method == "HEAD" ? "get"
                           : request_.method == "DELETE"                         ? "delete"
                                                                                 : "send";
  return std::string(verb) + " " + printable_url(request_.url);
}

Outcome<HttpResponse> HttpTransfer::outcome(CURLcode code) {
  if (stats_ != nullptr && response_status(easy_.get()) != 0) stats_->add_request();
  if (code != CURLE_OK && !cut_) return failure(code);
  response_.status = static_cast<int>(response_status(easy_.get()));
  if (response_.status == 407) return std::make_exception_ptr(ProxyLoginError(what()));
  spdlog::debug("{} {}: {} ({} bytes)", request_.method, printable_url(request_.url),
                response_.status, std::max<std::uint64_t>(received_, response_.body.size()));
  return std::move(response_);
}

Outcome<HttpResponse> HttpTransfer::aborted(const std::string& reason) const {
  return std::make_exception_ptr(TransportError(TransportError::Cause::kClosed, what(), reason));
}

CURLcode HttpTransfer::resume() {
  if (!held_back_ || is_paused()) return CURLE_OK;
  held_back_ = false;
  moved_at_ = {};  // nothing was to come meanwhile
  return curl().easy_pause(easy_.get(), CURLPAUSE_CONT);
}

std::exception_ptr HttpTransfer::failure(CURLcode code) {
  if (problem_) return problem_;
  long proxy_status = 0;
  curl().easy_getinfo(easy_.get(), CURLINFO_HTTP_CONNECTCODE, &proxy_status);
  if (proxy_status == 407) return std::make_exception_ptr(ProxyLoginError(what()));
  std::string reason = printable(error_text_[0] != '\0' ? std::string_view(error_text_.data())
                                                        : curl().easy_strerror(code));
  long os_error = 0;
  curl().easy_getinfo(easy_.get(), CURLINFO_OS_ERRNO, &os_error);
  if (code == CURLE_COULDNT_CONNECT && os_error != 0) {
    reason = std::generic_category().message(static_cast<int>(os_error));
  }
  if (code == CURLE_ABORTED_BY_CALLBACK) {
    reason = "fewer than " + std::to_string(kLeastRate) + " bytes a second came in " +
             std::to_string(request_.stall_timeout.count()) + " s";
  }
  spdlog::debug("{} {}: {}", request_.method, printable_url(request_.url), reason);
  if (code == CURLE_URL_MALFORMAT || code == CURLE_UNSUPPORTED_PROTOCOL) {
    return std::make_exception_ptr(Error(EINVAL, "Cannot " + what() + ": " + reason + "."));
  }
  if (code == CURLE_PEER_FAILED_VERIFICATION) {
    return std::make_exception_ptr(
        Error(EPROTO, "Cannot " + what() + ": its certificate is not trusted (" + reason +
                          "). Name the certificate of its authority by --tls-ca, or install it in "
                          "/etc/containers/certs.d/HOST/ as ca.crt."));
  }
  if (code == CURLE_SSL_CACERT_BADFILE) return bad_authorities(reason);
  if (is_certificate_alert(reason)) {
    return std::make_exception_ptr(Error(
        EPROTO, "Cannot " + what() +
                    ": the server wants another client's certificate, or one at all (" + reason +
                    "). Put it into /etc/containers/certs.d/HOST/, as client.cert and "
                    "client.key."));
  }
  if (code == CURLE_SSL_CERTPROBLEM) {
    return std::make_exception_ptr(
        Error(EPROTO, "Cannot " + what() + ": the client's certificate cannot be used (" + reason +
                          "). See to the files *.cert and *.key of that server."));
  }
  return no_answer(code, reason);
}

std::exception_ptr HttpTransfer::no_answer(CURLcode code, const std::string& reason) {
  response_.status = static_cast<int>(response_status(easy_.get()));
  const bool served = response_.status >= 200 && response_.status < 300;
  if (served && request_.method == "GET" && received_ > 0) {
    return std::make_exception_ptr(
        CutShortError(what(), reason, std::move(response_), request_.url));
  }
  return std::make_exception_ptr(TransportError(cause_of(code), what(), reason));
}

// Who gave authorities of his own wants TLS with them, and nothing less.
std::exception_ptr HttpTransfer::bad_authorities(const std::string& reason) const {
  if (!own_authorities_) return std::make_exception_ptr(NoTrustError(what(), reason));
  return std::make_exception_ptr(
      Error(EPROTO, "Cannot " + what() +
                        ": the certificates of the authorities to trust cannot be used (" + reason +
                        "). See to the file of --tls-ca and to the files *.crt in "
                        "/etc/containers/certs.d/HOST/: one of them is damaged."));
}

// Reads from a file on the loop: its caller has just verified it, so that it is in the page cache.
std::size_t HttpTransfer::read(char* buffer, std::size_t size) {
  size = static_cast<std::size_t>(std::min<std::uint64_t>(size, body_size_ - sent_));
  if (size == 0) return 0;
  if (const auto* bytes = std::get_if<std::shared_ptr<const Bytes>>(&request_.body)) {
    std::memcpy(buffer, (*bytes)->data() + sent_, size);
    sent_ += size;
    return size;
  }
  ssize_t count = 0;
  do {
    count = ::pread(file_.get(), buffer, size, static_cast<off_t>(sent_));
  } while (count < 0 && errno == EINTR);
  const auto& path = std::get<FileBody>(request_.body).path;
  if (count < 0) throw_errno("read " + path);
  if (count == 0) throw CorruptError("The file " + path + " became shorter while it was sent.");
  sent_ += static_cast<std::uint64_t>(count);
  return static_cast<std::size_t>(count);
}

void HttpTransfer::accept_header(std::string_view line) {
  header_size_ += line.size();
  if (header_size_ > kMaxHeaderSize) {
    throw CorruptError("Cannot " + what() + ": the server sent more than 64 KiB of headers.");
  }
  // A status line starts a new answer; what came before it was an interim one (1xx).
  if (line.starts_with("HTTP/")) {
    response_.headers.clear();
    return;
  }
  const auto colon = line.find(':');
  if (colon == std::string_view::npos) return;
  response_.headers.emplace(lower(trim(line.substr(0, colon))), trim(line.substr(colon + 1)));
}

// Returns whether more is wanted.
bool HttpTransfer::accept_body(ByteView data) {
  Bytes& body = response_.body;
  const long status = response_status(easy_.get());
  const bool served = status >= 200 && status < 300;
  if (!served) {
    const auto kept = std::min(data.size(), kMaxExplanationSize - body.size());
    body.insert(body.end(), data.begin(), data.begin() + static_cast<std::ptrdiff_t>(kept));
    cut_ = kept < data.size();
    return !cut_;
  }
  curl_off_t announced = 0;
  curl().easy_getinfo(easy_.get(), CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &announced);
  const auto expected = announced > 0 ? static_cast<std::uint64_t>(announced) : 0;
  if (expected > request_.max_body_size || data.size() > request_.max_body_size - received_) {
    throw CorruptError("Cannot " + what() + ": the server sends more than the " +
                       std::to_string(request_.max_body_size) + " bytes that were expected.");
  }
  if (body.empty() && !request_.on_body) {
    body.reserve(static_cast<std::size_t>(std::min(expected, kMaxReserve)));
  }
  received_ += data.size();
  response_.status = static_cast<int>(status);
  if (request_.on_body) {
    request_.on_body(response_, request_.url, data);
  } else {
    body.insert(body.end(), data.begin(), data.end());
  }
  return true;
}

// Whether too little came and went since it last was enough.
bool HttpTransfer::stalls(std::uint64_t moved) {
  if (is_paused()) {
    moved_at_ = {};
    return false;
  }
  const auto now = std::chrono::steady_clock::now();
  const auto enough = static_cast<std::uint64_t>(kLeastRate * request_.stall_timeout.count());
  if (moved_at_ == std::chrono::steady_clock::time_point() || moved - moved_ >= enough) {
    moved_at_ = now;
    moved_ = moved;
    return false;
  }
  return now - moved_at_ >= request_.stall_timeout;
}

int HttpTransfer::on_progress(void* self, curl_off_t /*to_receive*/, curl_off_t received,
                              curl_off_t /*to_send*/, curl_off_t sent) {
  const auto moved = static_cast<std::uint64_t>(received) + static_cast<std::uint64_t>(sent);
  return static_cast<HttpTransfer*>(self)->stalls(moved) ? 1 : 0;
}

std::size_t HttpTransfer::on_read(char* buffer, std::size_t size, std::size_t count, void* self) {
  auto* const transfer = static_cast<HttpTransfer*>(self);
  try {
    return transfer->read(buffer, size * count);
  } catch (const std::exception&) {
    transfer->problem_ = std::current_exception();
    return CURL_READFUNC_ABORT;
  }
}

// libcurl rewinds a body when a kept-alive connection turns out to be dead.
int HttpTransfer::on_seek(void* self, curl_off_t offset, int origin) {
  auto* const transfer = static_cast<HttpTransfer*>(self);
  if (origin != SEEK_SET || offset < 0 ||
      static_cast<std::uint64_t>(offset) > transfer->body_size_) {
    return CURL_SEEKFUNC_CANTSEEK;
  }
  transfer->sent_ = static_cast<std::uint64_t>(offset);
  return CURL_SEEKFUNC_OK;
}

std::size_t HttpTransfer::on_header(char* data, std::size_t size, std::size_t count, void* self) {
  auto* const transfer = static_cast<HttpTransfer*>(self);
  try {
    transfer->accept_header(std::string_view(data, size * count));
    return size * count;
  } catch (const std::exception&) {
    transfer->problem_ = std::current_exception();
    return 0;
  }
}

std::size_t HttpTransfer::on_body(char* data, std::size_t size, std::size_t count, void* self) {
  auto* const transfer = static_cast<HttpTransfer*>(self);
  if (transfer->is_paused()) {
    transfer->held_back_ = true;
    return CURL_WRITEFUNC_PAUSE;
  }
  if (transfer->stats_ != nullptr) transfer->stats_->add_fetched(size * count);
  try {
    return transfer->accept_body(as_bytes(std::string_view(data, size * count))) ? size * count : 0;
  } catch (const std::exception&) {
    transfer->problem_ = std::current_exception();
    return 0;
  }
}

}  // namespace puzzlefs::fetch
