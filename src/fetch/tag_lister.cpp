#include "fetch/tag_lister.h"

#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <cerrno>
#include <nlohmann/json.hpp>
#include <string_view>
#include <utility>

#include "fetch/registry_errors.h"
#include "fetch/then.h"
#include "format/error.h"

namespace puzzlefs::fetch {
namespace {

/// What registries give at once at most (registry.md).
constexpr std::string_view kFirstPage = "tags/list?n=1000";
/// More than any repository has, and an end to a server that has none.
constexpr std::size_t kMaxTags = 1'000'000;
constexpr std::size_t kMaxPages = 10'000;
constexpr std::size_t kMaxTagSize = 128;

std::vector<std::string> parse_page(ByteView body, const std::string& repository) {
  const auto malformed = [&] {
    return CorruptError(fmt::format("The list of tags of {} is malformed.", repository));
  };
  const auto document = nlohmann::json::parse(as_text(body), nullptr, false);
  if (!document.is_object()) throw malformed();
  const auto tags = document.find("tags");
  std::vector<std::string> result;
  // Some registries say null for none.
  if (tags == document.end() || tags->is_null()) return result;
  if (!tags->is_array()) throw malformed();
  for (const auto& tag : *tags) {
    if (!tag.is_string()) throw malformed();
    const auto& text = tag.get_ref<const std::string&>();
    if (text.empty() || text.size() > kMaxTagSize) throw malformed();
    result.push_back(tag.get<std::string>());
  }
  return result;
}

// Whether the parameters of a link have the relation "next".
bool is_next(std::string_view parameters) {
  while (!parameters.empty()) {
    auto parameter = parameters.substr(0, parameters.find_first_of(";,"));
    parameters.remove_prefix(std::min(parameter.size() + 1, parameters.size()));
    const auto begin = parameter.find_first_not_of(" \t");
    if (begin == std::string_view::npos) continue;
    parameter = parameter.substr(begin, parameter.find_last_not_of(" \t") - begin + 1);
    if (parameter == "rel=next" || parameter == "rel=\"next\"") return true;
  }
  return false;
}

std::vector<std::string> links_of(const HttpResponse& response) {
  std::vector<std::string> links;
  const auto [first, last] = response.headers.equal_range("link");
  for (auto header = first; header != last; ++header) links.push_back(header->second);
  return links;
}

}  // namespace

// Links stand in one header or in several: '<target>; name=value; name="value", <target>; …'.
std::string next_page(const std::vector<std::string>& headers) {
  for (const std::string_view header : headers) {
    std::size_t start = 0;
    while ((start = header.find('<', start)) != std::string_view::npos) {
      const auto end = header.find('>', start);
      if (end == std::string_view::npos) break;
      const auto next = std::min(header.find('<', end), header.size());
      if (is_next(header.substr(end + 1, next - end - 1))) {
        return std::string(header.substr(start + 1, end - start - 1));
      }
      start = next;
    }
  }
  return {};
}

TagLister::TagLister(format::RegistryName name, Send send,
                     Completion<std::vector<std::string>> done)
    : name_(std::move(name)), send_(std::move(send)), done_(std::move(done)) {}

void TagLister::run() {
  get(std::string(kFirstPage));
}

void TagLister::get(std::string target) {
  send_({.target = std::move(target)},
        then<Answer>(done_,
                     [self = shared_from_this()](const Answer& answer) { self->accept(answer); }));
}

void TagLister::accept(const Answer& answer) {
  const auto repository = name_.host + "/" + name_.repository;
  if (answer.response.status != 200) {
    throw_refusal(name_, "list the tags of " + repository,
                  fmt::format("There is no repository {}.", repository), answer.response);
  }
  auto page = parse_page(answer.response.body, repository);
  tags_.insert(tags_.end(), std::make_move_iterator(page.begin()),
               std::make_move_iterator(page.end()));
  const auto next = next_page(links_of(answer.response));
  if (next.empty()) return done_(std::move(tags_));
  if (++pages_ == kMaxPages || tags_.size() > kMaxTags) {
    throw CorruptError(fmt::format("The list of tags of {} does not end.", repository));
  }
  const auto url = answer.url.resolve(next);
  if (!url.same_origin(answer.url)) {
    throw CorruptError(
        fmt::format("The list of tags of {} goes on at another server.", repository));
  }
  get(url.text());
}

}  // namespace puzzlefs::fetch
