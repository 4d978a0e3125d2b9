// Text from a server, made fit for a message or a log line.
#pragma once

#include <string>
#include <string_view>

namespace puzzlefs::fetch {

/// `text` with all that is not printable ASCII replaced by '?', and no longer than `limit`.
std::string printable(std::string_view text, std::size_t limit = 200);

/// `url` without its query and fragment, where signed locations carry their secrets, and without a
/// user's name and password.
std::string printable_url(std::string_view url);

}  // namespace puzzlefs::fetch
