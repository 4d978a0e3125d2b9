// Text from a server, made fit for a message or a log line.
#include "fetch/printable.h"

#include <algorithm>

namespace puzzlefs::fetch {

std::string printable(std::string_view text, std::size_t limit) {
  std::string result(text.substr(0, limit));
  std::replace_if(
      result.begin(), result.end(), [](char c) { return c < 0x20 || c > 0x7e; }, '?');
  if (text.size() > limit) result += "...";
  return result;
}

std::string printable_url(std::string_view url) {
  std::string_view shown = url.substr(0, url.find_first_of("?#"));
  std::string scheme;
  if (const auto separator = shown.find("://"); separator != std::string_view::npos) {
    scheme = shown.substr(0, separator + 3);
    shown.remove_prefix(separator + 3);
  }
  if (const auto at = shown.substr(0, shown.find('/')).rfind('@'); at != std::string_view::npos) {
    shown.remove_prefix(at + 1);
  }
  return printable(scheme + std::string(shown), 300);
}

}  // namespace puzzlefs::fetch
