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

/// Where redirects may lead: anywhere, without the Authorization, or only within the scheme, host
/// and port of the request, for one that is itself a secret.
enum class Reach { kAnywhere, kSameOrigin };

/// Sends a request, following up to 5 redirects. Fails with Error (EPROTO), before anything is
/// sent there, when one leads beyond `reach`.
void send_following(HttpClient& client, HttpRequest request, Completion<Answer> done,
                    Reach reach = Reach::kAnywhere);

}  // namespace puzzlefs::fetch
