// Requests that may be answered from elsewhere.
#pragma once

#include "fetch/http_client.h"
#include "fetch/outcome.h"
#include "fetch/url.h"

namespace puzzlefs::fetch {

/// An answer that is not a redirect, and who gave it.
struct Answer {
  HttpResponse response;
  Url url;
};

bool is_redirect(const HttpResponse& response);

/// The request that `response` sends `request` on to. It carries no Authorization to another
/// scheme, host or port, and becomes a GET after 303. Throws Error (EPROTO) when the location is
/// missing or malformed, or would give up encryption.
HttpRequest redirected(const HttpRequest& request, const HttpResponse& response);

/// Sends a request, following up to 5 redirects.
void send_following(HttpClient& client, HttpRequest request, Completion<Answer> done);

}  // namespace puzzlefs::fetch
