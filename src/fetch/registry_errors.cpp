// What a registry's refusals mean, in sentences.
#include "fetch/registry_errors.h"

#include <boost/beast/http/status.hpp>
#include <cerrno>
#include <ctime>
#include <nlohmann/json.hpp>

#include "fetch/backoff.h"
#include "fetch/printable.h"

namespace puzzlefs::fetch {
namespace {

using Json = nlohmann::json;

std::string text_member(const Json& object, const char* name) {
  const auto found = object.find(name);
  if (found == object.end() || !found->is_string()) return {};
  return printable(found->get_ref<const std::string&>());
}

// The first error of the document: the others of a list hardly ever say more.
std::string first_error(const HttpResponse& response) {
  const Json document = Json::parse(as_text(response.body), nullptr, false);
  if (!document.is_object()) return {};
  const auto errors = document.find("errors");
  if (errors == document.end() || !errors->is_array() || errors->empty()) return {};
  const Json& first = errors->front();
  if (!first.is_object()) return {};
  const std::string code = text_member(first, "code");
  const std::string message = text_member(first, "message");
  return code.empty() || message.empty() ? code + message : code + ": " + message;
}

}  // namespace

BusyError::BusyError(const std::string& server, const HttpResponse& response)
    : UnavailableError(server + " does not serve just now: " + explain(response) + "."),
      server_(server),
      reason_(explain(response)),
      retry_after_(parse_retry_after(response.header("retry-after"), std::time(nullptr))) {}

std::string login_advice(const std::string& host) {
  return "Log in with \"puzzlefs login " + host +
         "\", or name a file with credentials by --authfile.";
}

bool is_busy(int status) {
  return status == 408 || status == 429 || status >= 500;
}

std::string explain(const HttpResponse& response) {
  std::string result = std::to_string(response.status);
  const auto status = boost::beast::http::int_to_status(static_cast<unsigned>(response.status));
  if (status != boost::beast::http::status::unknown) {
    result += ' ';
    result += std::string(boost::beast::http::obsolete_reason(status));
  }
  const std::string error = first_error(response);
  return error.empty() ? result : result + " (" + error + ")";
}

void throw_refusal(const format::RegistryName& name, const std::string& doing,
                   const std::string& missing, const HttpResponse& response) {
  const std::string sentence = "Cannot " + doing + ": " + explain(response) + ".";
  switch (response.status) {
    case 401:
      throw Error(EACCES, sentence + " " + login_advice(name.host));
    case 403:
      throw Error(EACCES, sentence + " The user who is logged in to " + name.host +
                              " has no right to do that.");
    case 404:
      throw NotFoundError(missing);
    default:
      throw Error(EIO, sentence);
  }
}

}  // namespace puzzlefs::fetch
