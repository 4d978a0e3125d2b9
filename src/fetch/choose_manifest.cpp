#include "fetch/choose_manifest.h"

#include <spdlog/fmt/fmt.h>

#include <optional>
#include <utility>

#include "format/error.h"

namespace puzzlefs::fetch {
namespace {

[[noreturn]] void throw_no_platform(const format::Index& index, const std::string& title,
                                    const format::Platform& wanted) {
  std::string offered;
  for (const auto& entry : index.manifests) {
    if (!entry.platform) continue;
    offered += offered.empty() ? "" : ", ";
    offered += format::to_string(*entry.platform);
  }
  throw NotFoundError(fmt::format("{} has no image for {}. It has: {}.", title,
                                  format::to_string(wanted), offered.empty() ? "none" : offered));
}

}  // namespace

Document make_document(Bytes bytes, const format::Digest& digest) {
  Document document{std::move(bytes), {}};
  document.descriptor.digest = digest;
  document.descriptor.size = document.bytes.size();
  return document;
}

std::string title_of(const format::Digest& digest, const std::string& name) {
  return fmt::format("The manifest {} of {}", digest.to_string(), name);
}

void check_index_depth(int depth, const std::string& title) {
  if (depth >= kMaxIndexDepth) {
    throw CorruptError(fmt::format("{} is an index in an index in an index.", title));
  }
}

Document choose_manifest(Document document, const std::string& name, const format::Platform& wanted,
                         const DocumentReader& read) {
  for (int depth = 0;; ++depth) {
    const auto title = title_of(document.descriptor.digest, name);
    // Of one that is said to be a manifest, as most are, nothing need be read to know it.
    if (format::is_manifest(document.descriptor.media_type)) return document;
    document.descriptor.media_type = format::media_type_of(document.bytes, title);
    if (!format::is_index(document.descriptor.media_type)) return document;
    check_index_depth(depth, title);
    const auto index = format::parse_index(document.bytes, title);
    const auto chosen = format::select_platform(index, wanted);
    if (!chosen) throw_no_platform(index, title, wanted);
    document = read(*chosen);
    document.descriptor.platform = chosen->platform;
  }
}

}  // namespace puzzlefs::fetch
