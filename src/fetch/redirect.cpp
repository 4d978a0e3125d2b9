// Requests that may be answered from elsewhere.
#include "fetch/redirect.h"

#include <strings.h>

#include <cerrno>
#include <utility>

#include "fetch/printable.h"
#include "fetch/then.h"
#include "format/error.h"

namespace puzzlefs::fetch {
namespace {

constexpr int kMaxRedirects = 5;
constexpr std::string_view kAuthorization = "authorization:";

bool is_authorization(const std::string& header) {
  return strncasecmp(header.c_str(), kAuthorization.data(), kAuthorization.size()) == 0;
}

void check_reach(const HttpRequest& request, const HttpRequest& next, Reach reach) {
  if (reach == Reach::kAnywhere || Url::parse(request.url).same_origin(Url::parse(next.url))) {
    return;
  }
  throw Error(EPROTO, printable_url(request.url) + " is redirected to another server, " +
                          printable_url(next.url) +
                          ", which must not see what is sent to the first: refused.");
}

void send_following(HttpClient& client, HttpRequest request, int redirects_left, Reach reach,
                    Completion<Answer> done) {
  auto sent = request;  // what is large in it is shared
  client.send(std::move(sent),
              then<HttpResponse>(done, [&client, request = std::move(request), redirects_left,
                                        reach, done](HttpResponse response) {
                if (!is_redirect(response)) {
                  auto url = Url::parse(request.url);
                  return done(Answer{std::move(response), std::move(url)});
                }
                if (redirects_left == 0) {
                  throw Error(ELOOP, "Cannot get " + printable_url(request.url) +
                                         ": it is redirected too often.");
                }
                auto next = redirected(request, response);
                check_reach(request, next, reach);
                send_following(client, std::move(next), redirects_left - 1, reach, done);
              }));
}

}  // namespace

bool is_redirect(const HttpResponse& response) {
  switch (response.status) {
    case 301:
    case 302:
    case 303:
    case 307:
    case 308:
      return true;
    default:
      return false;
  }
}

HttpRequest redirected(const HttpRequest& request, const HttpResponse& response) {
  const Url from = Url::parse(request.url);
  const std::string location = response.header("location");
  if (location.empty()) {
    throw Error(EPROTO, printable_url(request.url) + " is redirected without saying where to.");
  }
  const Url to = from.resolve(location);
  if (from.is_https() && !to.is_https()) {
    throw Error(EPROTO, printable_url(request.url) + " is redirected to " +
                            printable_url(to.text()) + ", which is not encrypted: refused.");
  }
  HttpRequest next = request;
  next.url = to.text();
  // Once gone it stays gone, also if a later redirect leads back.
  if (!from.same_origin(to)) {
    std::erase_if(next.headers, is_authorization);
    next.verify_server = true;  // who need not be trusted is one server, not all
  }
  if (response.status == 303 && request.method != "HEAD") {
    next.method = "GET";
    next.body = std::monostate();
  }
  return next;
}

void send_following(HttpClient& client, HttpRequest request, Completion<Answer> done, Reach reach) {
  send_following(client, std::move(request), kMaxRedirects, reach, std::move(done));
}

}  // namespace puzzlefs::fetch
