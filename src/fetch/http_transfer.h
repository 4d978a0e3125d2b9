// One request on its way: an easy handle of libcurl, what it sends and what came back so far.
// Belongs to HttpClient and lives on the loop.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <exception>
#include <memory>
#include <string>

#include "fetch/curl_library.h"
#include "fetch/file_descriptor.h"
#include "fetch/http_client.h"

namespace puzzlefs::fetch {

struct FreeEasy {
  void operator()(CURL* easy) const { curl().easy_cleanup(easy); }
};
using EasyHandle = std::unique_ptr<CURL, FreeEasy>;

class HttpTransfer {
 public:
  /// `easy` is fresh or was reset. `certificates` are the server's, with the system's authorities
  /// where there are any of its own, and must outlive the transfer.
  /// Throws Error when the request cannot be made.
  HttpTransfer(EasyHandle easy, HttpRequest request, const HttpOptions& options,
               const ServerCertificates& certificates);

  CURL* easy() const { return easy_.get(); }
  /// The handle, reset, for the next transfer.
  EasyHandle release_easy();

  /// What became of the request, once libcurl says that it ended with `code`.
  Outcome<HttpResponse> outcome(CURLcode code);
  /// The outcome of a request that was not let finish, for `reason`.
  Outcome<HttpResponse> aborted(const std::string& reason) const;
  /// May be null.
  TransferControl* control() const { return request_.control.get(); }
  /// Goes on with a body that was held back, unless it still is to be. What is not CURLE_OK ends
  /// the transfer.
  CURLcode resume();

 private:
  void set_connection_options(const HttpOptions& options);
  void set_certificates(const HttpOptions& options, const ServerCertificates& certificates);
  void set_request_options();
  void set_body();
  void add_header(const std::string& header);
  std::exception_ptr failure(CURLcode code);
  std::exception_ptr no_answer(CURLcode code, const std::string& reason);
  std::exception_ptr bad_authorities(const std::string& reason) const;
  std::string what() const;

  std::size_t read(char* buffer, std::size_t size);
  void accept_header(std::string_view line);
  bool accept_body(ByteView data);
  bool is_paused() const { return request_.control && request_.control->is_paused(); }
  bool stalls(std::uint64_t moved);

  static std::size_t on_read(char* buffer, std::size_t size, std::size_t count, void* self);
  static int on_seek(void* self, curl_off_t offset, int origin);
  static std::size_t on_header(char* data, std::size_t size, std::size_t count, void* self);
  static int on_progress(void* self, curl_off_t, curl_off_t received, curl_off_t, curl_off_t sent);
  static std::size_t on_body(char* data, std::size_t size, std::size_t count, void* self);

  EasyHandle easy_;
  FetchStats* const stats_;  // may be null
  HttpRequest request_;
  struct FreeList {
    void operator()(curl_slist* list) const { curl().slist_free_all(list); }
  };
  std::unique_ptr<curl_slist, FreeList> headers_;
  bool own_authorities_ = false;  // some were given for the server
  std::array<char, CURL_ERROR_SIZE> error_text_{};

  FileDescriptor file_;  // of a FileBody
  std::uint64_t body_size_ = 0;
  std::uint64_t sent_ = 0;

  std::uint64_t moved_ = 0;  // bytes of bodies, in both directions, at `moved_at_`
  std::chrono::steady_clock::time_point moved_at_{};

  HttpResponse response_;
  std::size_t header_size_ = 0;
  bool held_back_ = false;      // libcurl keeps bytes that were not taken
  std::uint64_t received_ = 0;  // of the body of an answer that serves
  bool cut_ = false;            // the explanation was longer than we want to know
  std::exception_ptr problem_;  // why a callback ended the transfer
};

}  // namespace puzzlefs::fetch
