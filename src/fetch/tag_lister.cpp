#include "fetch/tag_lister.h"

#include <spdlog/fmt/fmt.h>

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
/// A million tags; more than any repository has, and an end to a server that has none.
constexpr std::size_t kMaxPages = 1000;
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
    if (!tag.is_string() || tag.get_ref<const std::string&>().size() > kMaxTagSize) {
      throw malformed();
    }
    result.push_back(tag.get<std::string>());
  }
  return result;
}

}  // namespace

std::string next_page(const std::string& link) {
  const auto start = link.find('<');
  const auto end = link.find('>', start);
  if (start == std::string::npos || end == std::string::npos) return {};
  const auto parameters = std::string_view(link).substr(end);
  const bool is_next = parameters.find("rel=\"next\"") != std::string_view::npos ||
                       parameters.find("rel=next") != std::string_view::npos;
  return is_next ? link.substr(start + 1, end - start - 1) : std::string();
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
  const auto next = next_page(answer.response.header("link"));
  if (next.empty()) return done_(std::move(tags_));
  if (++pages_ == kMaxPages) {
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
