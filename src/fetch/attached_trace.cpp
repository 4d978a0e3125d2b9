#include "fetch/attached_trace.h"

#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "fetch/then.h"
#include "format/error.h"

namespace puzzlefs::fetch {
namespace {

std::optional<format::Time> created(const format::Descriptor& entry) {
  const auto found = entry.annotations.find(std::string(format::kCreatedAnnotation));
  return found == entry.annotations.end() ? std::nullopt : format::parse_time(found->second);
}

// Null if there is none. What says no time is older than what does.
const format::Descriptor* newest(const std::vector<format::Descriptor>& list) {
  const format::Descriptor* best = nullptr;
  for (const auto& entry : list) {
    if (!format::is_manifest(entry.media_type)) continue;
    if (best == nullptr || created(entry) >= created(*best)) best = &entry;
  }
  return best;
}

AttachedTrace parse_attachment(const FetchedManifest& fetched, const format::Digest& subject) {
  const auto name = "manifest " + fetched.digest.to_string();
  const auto manifest = format::parse_manifest(fetched.document, name);
  const auto layer =
      std::find_if(manifest.layers.begin(), manifest.layers.end(),
                   [](const auto& each) { return each.media_type == format::kTraceType; });
  if (!manifest.subject || manifest.subject->digest != subject || layer == manifest.layers.end()) {
    throw CorruptError(
        fmt::format("The {}, which the registry lists as one that attaches a trace to {}, does "
                    "nothing of the kind.",
                    name, subject.to_string()));
  }
  return {fetched.digest, *layer};
}

void check_size(const format::Descriptor& blob) {
  if (blob.size <= kMaxAttachedTrace) return;
  throw CorruptError(fmt::format("The trace {} is too large: {} bytes, at most {}.",
                                 blob.digest.to_string(), blob.size, kMaxAttachedTrace));
}

format::Trace verify_and_parse(const Bytes& text, const format::Descriptor& blob) {
  const auto name = "trace " + blob.digest.to_string();
  if (format::sha256(text) != blob.digest) {
    throw CorruptError("The registry sent wrong bytes for the " + name + ".");
  }
  return format::parse_trace(text, name);
}

}  // namespace

Bytes trace_manifest(const format::Descriptor& subject, const format::Descriptor& blob,
                     format::Time created) {
  const format::Manifest manifest{
      .config = format::empty_config(),
      .layers = {blob},
      .annotations = {{std::string(format::kCreatedAnnotation), format::to_text(created)}},
      .artifact_type = std::string(format::kTraceType),
      .subject = subject};
  const auto text = format::to_json_text(manifest);
  const auto bytes = as_bytes(text);
  return {bytes.begin(), bytes.end()};
}

void find_attached_trace(Registry& registry, const format::Digest& subject,
                         Completion<std::optional<AttachedTrace>> done) {
  using List = std::vector<format::Descriptor>;
  const auto fetch_newest = [&registry, subject, done](const List& list) {
    const auto* entry = newest(list);
    if (entry == nullptr) return done(std::optional<AttachedTrace>());
    registry.get_manifest(entry->digest.to_string(),
                          then<FetchedManifest>(done, [subject, done](const FetchedManifest& got) {
                            done(std::optional(parse_attachment(got, subject)));
                          }));
  };
  registry.referrers(subject, std::string(format::kTraceType), then<List>(done, fetch_newest));
}

void read_attached_trace(Runtime& runtime, Registry& registry, const format::Descriptor& blob,
                         Completion<format::Trace> done) {
  try {
    check_size(blob);
  } catch (const Error&) {
    return done(std::current_exception());
  }
  registry.read(blob, Freshness::kAny, then<Bytes>(done, [&runtime, blob, done](Bytes text) {
                  // It may take a while.
                  runtime.post([text = std::move(text), blob, done] {
                    try {
                      done(verify_and_parse(text, blob));
                    } catch (const std::exception&) {
                      done(std::current_exception());
                    }
                  });
                }));
}

}  // namespace puzzlefs::fetch
