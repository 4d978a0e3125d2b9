// What a registry's answers teach about where its blobs are.
#pragma once

#include <chrono>
#include <ctime>
#include <map>
#include <optional>
#include <set>
#include <string>

#include "fetch/url.h"
#include "format/digest.h"

namespace puzzlefs::fetch {

/// How long a signed location can be used, by its query: `X-Amz-Date` and `X-Amz-Expires` (AWS
/// Signature Version 4; Google's have the prefix `X-Goog-`), `Expires` (CloudFront, in seconds
/// since 1970) or `se` (Azure's shared access signatures). Nothing when it does not say, or has
/// passed.
std::optional<std::chrono::seconds> signed_lifetime(const Url& location, std::time_t now);

/// Lives on the loop: all calls from there.
class BlobRoutes {
 public:
  using Clock = std::chrono::steady_clock;

  /// Where a request for the blob was redirected to, if that is known and can still be used.
  std::optional<Url> location(const format::Digest& blob, Clock::time_point now = Clock::now());
  /// The registry sent us there. Kept until 80 % of the signature's life have passed; a location
  /// without a known life is not kept.
  void learn(const format::Digest& blob, const Url& location, Clock::time_point now = Clock::now());
  void forget(const format::Digest& blob);

  /// Whether the server of `url` is worth asking for a part of a blob.
  bool has_ranges(const Url& url) const { return !without_ranges_.contains(url.server()); }
  void note_no_ranges(const Url& url);

 private:
  struct Route {
    Url location;
    Clock::time_point renew_at;
  };

  std::map<format::Digest, Route> routes_;
  std::set<std::string> without_ranges_;
};

}  // namespace puzzlefs::fetch
