// What a registry's refusals mean, in sentences.
#pragma once

#include <cerrno>
#include <chrono>
#include <optional>
#include <string>
#include <utility>

#include "fetch/http_client.h"
#include "format/error.h"
#include "format/image_name.h"

namespace puzzlefs::fetch {

/// An answer that may be another one later: 408, 429, 5xx.
class BusyError : public UnavailableError {
 public:
  /// `server` for the message; the wait it asks for comes from Retry-After.
  BusyError(const std::string& server, const HttpResponse& response);

  /// Who answered so.
  const std::string& server() const { return server_; }
  /// "503 Service Unavailable", with the server's own words if it has any.
  const std::string& reason() const { return reason_; }
  std::optional<std::chrono::seconds> retry_after() const { return retry_after_; }

 private:
  std::string server_;
  std::string reason_;
  std::optional<std::chrono::seconds> retry_after_;
};

/// Who one is, or is not, is not enough for what was asked. EACCES.
class RefusedError : public Error {
 public:
  /// `reason`: who refuses and how, "the token service … answers 401 Unauthorized".
  RefusedError(const std::string& sentence, std::string reason)
      : Error(EACCES, sentence), reason_(std::move(reason)) {}

  const std::string& reason() const { return reason_; }

 private:
  std::string reason_;
};

/// "Log in with …": what to do about a refusal by `host`.
std::string login_advice(const std::string& host);

/// Whether a status says "later" and not "no".
bool is_busy(int status);

/// "404 Not Found (NAME_UNKNOWN: no such repository)": the status, and what the error document of
/// the distribution specification says, made printable and short. Other bodies are not shown.
std::string explain(const HttpResponse& response);

/// Throws what a status that was not hoped for means. `doing` completes "Cannot …", `missing` is
/// the sentence for 404.
[[noreturn]] void throw_refusal(const format::RegistryName& name, const std::string& doing,
                                const std::string& missing, const HttpResponse& response);

}  // namespace puzzlefs::fetch
