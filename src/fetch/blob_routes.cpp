#include "fetch/blob_routes.h"

#include <algorithm>
#include <charconv>
#include <utility>

namespace puzzlefs::fetch {
namespace {

using std::chrono::seconds;

constexpr std::size_t kMaxRoutes = 4096;
constexpr std::size_t kMaxServers = 256;       // they name themselves: there is no end to names
constexpr seconds kLongest{7 * 24 * 60 * 60};  // what AWS signs for at most

std::string parameter(const Url& url, std::string_view name) {
  const std::string& text = url.text();
  const auto query = text.find('?');
  if (query == std::string::npos) return {};
  std::string_view rest = std::string_view(text).substr(query + 1);
  rest = rest.substr(0, rest.find('#'));
  while (!rest.empty()) {
    const auto pair = rest.substr(0, rest.find('&'));
    rest.remove_prefix(std::min(pair.size() + 1, rest.size()));
    if (pair.size() > name.size() && pair.starts_with(name) && pair[name.size()] == '=') {
      return percent_decode(pair.substr(name.size() + 1));
    }
  }
  return {};
}

std::optional<std::time_t> parse_number(const std::string& text) {
  std::time_t value = 0;
  const char* const end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, value);
  if (error != std::errc() || stop != end) return std::nullopt;
  return value;
}

// "20260102T030405Z", or with the separators of ISO 8601.
std::optional<std::time_t> parse_time(std::string text) {
  std::erase_if(text, [](char c) { return c == '-' || c == ':'; });
  std::tm parts{};
  if (::strptime(text.c_str(), "%Y%m%dT%H%M%S", &parts) == nullptr) return std::nullopt;
  return ::timegm(&parts);
}

std::optional<std::time_t> end_of_life(const Url& location) {
  for (const std::string prefix : {"X-Amz-", "X-Goog-"}) {
    const auto begin = parse_time(parameter(location, prefix + "Date"));
    const auto life = parse_number(parameter(location, prefix + "Expires"));
    if (begin && life && *life >= 0 && *life <= kLongest.count()) return *begin + *life;
  }
  if (const auto expires = parse_number(parameter(location, "Expires"))) return expires;
  return parse_time(parameter(location, "se"));
}

}  // namespace

std::optional<seconds> signed_lifetime(const Url& location, std::time_t now) {
  const auto end = end_of_life(location);
  if (!end || *end <= now) return std::nullopt;
  if (*end > now + kLongest.count()) return kLongest;
  return seconds(*end - now);
}

std::optional<Url> BlobRoutes::location(const format::Digest& blob, Clock::time_point now) {
  const auto found = routes_.find(blob);
  if (found == routes_.end()) return std::nullopt;
  if (now < found->second.renew_at) return found->second.location;
  routes_.erase(found);
  return std::nullopt;
}

void BlobRoutes::learn(const format::Digest& blob, const Url& location, Clock::time_point now) {
  const auto life = signed_lifetime(location, std::time(nullptr));
  if (!life) return;
  if (routes_.size() >= kMaxRoutes) {
    std::erase_if(routes_, [now](const auto& entry) { return entry.second.renew_at <= now; });
  }
  if (routes_.size() >= kMaxRoutes) routes_.clear();
  routes_.insert_or_assign(blob, Route{location, now + *life * 4 / 5});
}

void BlobRoutes::forget(const format::Digest& blob) {
  routes_.erase(blob);
}

void BlobRoutes::note_no_ranges(const Url& url) {
  if (without_ranges_.size() >= kMaxServers) without_ranges_.clear();
  without_ranges_.insert(url.server());
}

}  // namespace puzzlefs::fetch
