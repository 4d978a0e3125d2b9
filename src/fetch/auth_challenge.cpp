// A list of challenges is separated by commas, and so are the parameters of each: only the '='
// after a word tells a parameter from the scheme of the next challenge.
#include "fetch/auth_challenge.h"

#include <algorithm>
#include <cctype>

namespace puzzlefs::fetch {
namespace {

bool is_token_character(char c) {
  return std::isalnum(static_cast<unsigned char>(c)) != 0 ||
         std::string_view("!#$%&'*+-.^_`|~/").find(c) != std::string_view::npos;
}

class Parser {
 public:
  explicit Parser(std::string_view text) : text_(text) {}

  std::vector<AuthChallenge> parse() {
    std::vector<AuthChallenge> challenges;
    for (;;) {
      skip(" \t,");
      const std::string word = token();
      if (word.empty()) return challenges;
      skip(" \t");
      if (!next_is('=')) {
        challenges.push_back({word, {}});
        continue;
      }
      skip("=");  // "token68" credentials may end with several
      skip(" \t");
      const std::string value = next_is('"') ? quoted() : raw_token();
      if (!challenges.empty()) challenges.back().parameters.emplace(word, value);
    }
  }

 private:
  bool next_is(char c) const { return !text_.empty() && text_.front() == c; }

  void skip(std::string_view characters) {
    text_.remove_prefix(std::min(text_.find_first_not_of(characters), text_.size()));
  }

  std::string raw_token() {
    const auto end = std::find_if_not(text_.begin(), text_.end(), is_token_character);
    std::string result(text_.begin(), end);
    text_.remove_prefix(result.size());
    return result;
  }

  std::string token() {
    std::string result = raw_token();
    for (char& c : result) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    return result;
  }

  std::string quoted() {
    std::string result;
    text_.remove_prefix(1);
    while (!text_.empty() && text_.front() != '"') {
      if (text_.front() == '\\' && text_.size() > 1) text_.remove_prefix(1);
      result += text_.front();
      text_.remove_prefix(1);
    }
    if (!text_.empty()) text_.remove_prefix(1);
    return result;
  }

  std::string_view text_;
};

}  // namespace

std::string AuthChallenge::parameter(const std::string& name) const {
  const auto found = parameters.find(name);
  return found == parameters.end() ? std::string() : found->second;
}

std::vector<AuthChallenge> parse_challenges(std::string_view header) {
  return Parser(header).parse();
}

}  // namespace puzzlefs::fetch
