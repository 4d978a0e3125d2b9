#include "fetch/referrers.h"

#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <cerrno>
#include <nlohmann/json.hpp>
#include <utility>

#include "fetch/registry_errors.h"
#include "fetch/tag_lister.h"
#include "fetch/then.h"
#include "fetch/url.h"
#include "format/error.h"

namespace puzzlefs::fetch {
namespace {

using nlohmann::json;

constexpr std::size_t kMaxPages = 1000;
constexpr std::size_t kMaxReferrers = 100'000;
// Entries can be as large as pages.
constexpr std::size_t kMaxListSize = 16 << 20;
constexpr std::string_view kEmptyIndex =
    R"({"manifests":[],"mediaType":"application/vnd.oci.image.index.v1+json","schemaVersion":2})";

Bytes to_bytes(std::string_view text) {
  const auto bytes = as_bytes(text);
  return {bytes.begin(), bytes.end()};
}

bool is_image_index(ByteView document) {
  try {
    return format::media_type_of(document, "answer") == format::kIndexType;
  } catch (const CorruptError&) {
    return false;
  }
}

std::vector<std::string> links_of(const HttpResponse& response) {
  std::vector<std::string> links;
  const auto [first, last] = response.headers.equal_range("link");
  for (auto header = first; header != last; ++header) links.push_back(header->second);
  return links;
}

// The index with one more entry; all else in it stays as it is, unknown members too.
Bytes with_entry(const Bytes& index, const format::Descriptor& entry) {
  auto document = json::parse(as_text(index));  // parse_index() has seen it
  document["manifests"].push_back(format::to_json(entry));
  return to_bytes(document.dump());
}

}  // namespace

std::string referrers_tag(const format::Digest& subject) {
  auto tag = subject.to_string();
  std::replace(tag.begin(), tag.end(), ':', '-');
  return tag;
}

Referrers::Referrers(format::RegistryName name, Send send)
    : name_(std::move(name)), send_(std::move(send)) {}

void Referrers::list(const format::Digest& subject, const std::string& artifact_type,
                     Completion<List> done) {
  subject_ = subject;
  artifact_type_ = artifact_type;
  auto target = "referrers/" + subject.to_string();
  if (!artifact_type.empty()) target += "?artifactType=" + percent_encode(artifact_type);
  get_page(std::move(target), std::move(done));
}

void Referrers::get_page(std::string target, Completion<List> done) {
  RegistryRequest request{.target = std::move(target),
                          .headers = {"Accept: " + std::string(format::kIndexType)},
                          .max_body_size = format::kMaxManifestSize};
  send_(std::move(request), [self = shared_from_this(), done](Outcome<Answer> outcome) {
    try {
      self->take_page(outcome.value(), done);
    } catch (const UnavailableError&) {
      done(std::current_exception());
    } catch (const Error&) {
      // Such as a redirect that leads nowhere: no referrers are listed here.
      if (self->pages_ > 0) return done(std::current_exception());
      self->list_by_tag(done);
    }
  });
}

void Referrers::take_page(const Answer& answer, const Completion<List>& done) {
  const auto& body = answer.response.body;
  if (answer.response.status != 200 || !is_image_index(body)) {
    if (pages_ == 0) return list_by_tag(done);
    throw CorruptError(fmt::format("The list of referrers of {}@{} breaks off.", repository(),
                                   subject_.to_string()));
  }
  auto page = format::parse_index(body, "list of referrers of " + subject_.to_string()).manifests;
  found_.insert(found_.end(), std::make_move_iterator(page.begin()),
                std::make_move_iterator(page.end()));
  ++pages_;
  size_ += body.size();
  const auto next = next_page(links_of(answer.response));
  if (next.empty()) return give(std::move(found_), done);
  const auto url = answer.url.resolve(next);
  if (pages_ == kMaxPages || found_.size() > kMaxReferrers || size_ > kMaxListSize ||
      !url.same_origin(answer.url)) {
    throw CorruptError(
        fmt::format("The list of referrers of {}@{} does not end, or goes on at another server.",
                    repository(), subject_.to_string()));
  }
  get_page(url.text(), done);
}

// A registry may not know the filter, and the index of the tag has all.
void Referrers::give(List all, const Completion<List>& done) const {
  if (!artifact_type_.empty()) {
    std::erase_if(all, [&](const auto& entry) { return entry.artifact_type != artifact_type_; });
  }
  done(std::move(all));
}

void Referrers::list_by_tag(const Completion<List>& done) {
  get_tag(then<Bytes>(done, [self = shared_from_this(), done](const Bytes& index) {
    auto entries = format::parse_index(index, "index " + referrers_tag(self->subject_)).manifests;
    self->give(std::move(entries), done);
  }));
}

// The index that the tag names, an empty one if there is no such tag.
void Referrers::get_tag(Completion<Bytes> done) {
  const auto tag = referrers_tag(subject_);
  RegistryRequest request{.target = "manifests/" + tag,
                          .headers = {"Accept: " + std::string(format::kIndexType)},
                          .max_body_size = format::kMaxManifestSize};
  send_(std::move(request),
        then<Answer>(done, [self = shared_from_this(), tag, done](Answer answer) {
          auto& response = answer.response;
          if (response.status == 404) return done(to_bytes(kEmptyIndex));
          const auto name = self->repository() + ":" + tag;
          if (response.status != 200) {
            throw_refusal(self->name_, "get the index " + name, {}, response);
          }
          if (!is_image_index(response.body)) {
            throw CorruptError(fmt::format(
                "{} is no index, though its name says that it lists what refers to an image. "
                "Delete that tag if nobody needs it.",
                name));
          }
          done(std::move(response.body));
        }));
}

void Referrers::attach(Bytes document, Completion<Done> done) {
  format::Descriptor entry;
  try {
    const auto manifest = format::parse_manifest(document, "manifest to attach");
    if (!manifest.subject) throw Error(EINVAL, "The manifest to attach has no subject.");
    subject_ = manifest.subject->digest;
    entry.media_type = format::kManifestType;
    entry.digest = format::sha256(document);
    entry.size = document.size();
    entry.annotations = manifest.annotations;
    entry.artifact_type = format::artifact_type(manifest);
  } catch (const Error&) {
    return done(std::current_exception());
  }
  put(entry.digest.to_string(), format::kManifestType, std::move(document),
      then<Answer>(done, [self = shared_from_this(), entry, done](const Answer& answer) {
        // With that header the registry says that it lists it.
        if (answer.response.headers.contains("oci-subject")) return done(Done{});
        self->add_to_tag(entry, done);
      }));
}

void Referrers::add_to_tag(const format::Descriptor& entry, const Completion<Done>& done) {
  get_tag(then<Bytes>(done, [self = shared_from_this(), entry, done](const Bytes& index) {
    const auto tag = referrers_tag(self->subject_);
    const auto entries = format::parse_index(index, "index " + tag).manifests;
    const bool listed = std::any_of(entries.begin(), entries.end(), [&](const auto& other) {
      return other.digest == entry.digest;
    });
    if (listed) return done(Done{});
    auto longer = with_entry(index, entry);
    if (longer.size() > format::kMaxManifestSize) {
      throw Error(EFBIG, fmt::format("{}:{} is full: registries take no larger index. Delete what "
                                     "it lists and nobody needs.",
                                     self->repository(), tag));
    }
    self->put(tag, format::kIndexType, std::move(longer),
              then<Answer>(done, [done](const Answer&) { done(Done{}); }));
  }));
}

// Fails unless it was taken.
void Referrers::put(const std::string& reference, std::string_view media_type, Bytes document,
                    Completion<Answer> done) {
  RegistryRequest request{.method = "PUT",
                          .target = "manifests/" + reference,
                          .headers = {"Content-Type: " + std::string(media_type)},
                          .body = std::make_shared<const Bytes>(std::move(document))};
  send_(std::move(request),
        then<Answer>(done, [self = shared_from_this(), reference, done](Answer answer) {
          if (answer.response.status != 201) {
            throw_refusal(self->name_,
                          "push the manifest " + reference + " to " + self->repository(),
                          "Registry " + self->name_.host + " takes no manifests for " +
                              self->name_.repository + ".",
                          answer.response);
          }
          done(std::move(answer));
        }));
}

}  // namespace puzzlefs::fetch
