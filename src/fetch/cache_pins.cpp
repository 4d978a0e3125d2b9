#include "fetch/cache_pins.h"

#include <spdlog/fmt/fmt.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <nlohmann/json.hpp>
#include <system_error>

#include "fetch/choose_manifest.h"
#include "fetch/file_descriptor.h"
#include "format/error.h"
#include "format/oci.h"

namespace puzzlefs::fetch {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

constexpr std::size_t kMaxPinSize = 64 << 10;
constexpr unsigned kFileMode = 0600;

std::optional<Pin> read_pin(const fs::path& file) {
  try {
    const auto text = read_file(file, kMaxPinSize);
    const auto document = Json::parse(as_text(text));
    return Pin{document.at("name").get<std::string>(),
               format::Digest::parse(document.at("named").get<std::string>()),
               format::Digest::parse(document.at("manifest").get<std::string>())};
  } catch (const Error&) {
    return std::nullopt;
  } catch (const Json::exception&) {
    return std::nullopt;
  }
}

// The way from a name to its manifest may lead over several.
void add_indexes(const format::Digest& index, const ReadBlob& read, int depth,
                 std::unordered_set<format::Digest>& result) {
  // One that is named again and again is followed once.
  if (!result.insert(index).second) return;
  const auto document = depth > 0 ? read(index) : std::nullopt;
  if (!document) return;
  try {
    for (const auto& entry : format::parse_index(*document, index.to_string()).manifests) {
      if (format::is_index(entry.media_type)) add_indexes(entry.digest, read, depth - 1, result);
    }
  } catch (const CorruptError&) {
    // It is kept, and leads nowhere.
  }
}

}  // namespace

// A name is too long for a file's, and has slashes.
fs::path CachePins::file_of(const std::string& name) const {
  return directory_ / (format::sha256(as_bytes(name)).hex() + ".json");
}

void CachePins::add(const Pin& pin) const {
  const Json document = {
      {"name", pin.name}, {"named", pin.named.to_string()}, {"manifest", pin.manifest.to_string()}};
  const auto text = document.dump(2) + "\n";
  write_file_atomically(file_of(pin.name), directory_, as_bytes(text), kFileMode,
                        Durability::kFlushed);
}

bool CachePins::remove(const std::string& name) const {
  const auto file = file_of(name);
  if (::unlink(file.c_str()) == 0) return true;
  if (errno == ENOENT) return false;
  throw_errno(fmt::format("remove {}", file.native()));
}

std::optional<Pin> CachePins::find(const std::string& name) const {
  return read_pin(file_of(name));
}

std::vector<Pin> CachePins::list() const {
  std::vector<Pin> pins;
  std::error_code failure;
  for (fs::directory_iterator entry(directory_, failure), end; !failure && entry != end;
       entry.increment(failure)) {
    if (entry->path().extension() != ".json") continue;
    if (auto pin = read_pin(entry->path())) pins.push_back(std::move(*pin));
  }
  std::sort(pins.begin(), pins.end(), [](const Pin& a, const Pin& b) { return a.name < b.name; });
  return pins;
}

std::unordered_set<format::Digest> CachePins::blobs(const ReadBlob& read) const {
  std::unordered_set<format::Digest> result;
  for (const auto& pin : list()) {
    result.insert(pin.manifest);
    if (pin.named != pin.manifest) add_indexes(pin.named, read, kMaxIndexDepth, result);
    const auto document = read(pin.manifest);
    if (!document) continue;
    try {
      const auto manifest = format::parse_manifest(*document, pin.manifest.to_string());
      for (const auto& blob : kept_blobs(manifest, read)) result.insert(blob.digest);
    } catch (const CorruptError&) {
      // A pin that somebody wrote for something else.
    }
  }
  return result;
}

}  // namespace puzzlefs::fetch
