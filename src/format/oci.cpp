#include "format/oci.h"

#include <array>
#include <nlohmann/json.hpp>

#include "format/error.h"

namespace puzzlefs::format {

namespace {

using Json = nlohmann::json;

// Reads members of one JSON object and says which one is wrong.
class Members {
 public:
  Members(const Json& value, std::string_view name) : value_(value), name_(name) {
    if (!value.is_object()) fail("is not a JSON object");
  }

  [[noreturn]] void fail(const std::string& what) const {
    throw CorruptError("The " + std::string(name_) + " " + what + ".");
  }

  const Json* find(const char* key) const {
    const auto found = value_.find(key);
    return found == value_.end() || found->is_null() ? nullptr : &*found;
  }

  std::string text(const char* key) const {
    const Json* member = find(key);
    if (!member) return {};
    if (!member->is_string()) fail(std::string("has a member ") + key + " that is no string");
    return member->get<std::string>();
  }

  std::string required_text(const char* key) const {
    auto value = text(key);
    if (value.empty()) fail(std::string("has no ") + key);
    return value;
  }

  std::uint64_t size(const char* key) const {
    const Json* member = find(key);
    if (!member || !member->is_number_unsigned())
      fail(std::string("has a member ") + key + " that is no size");
    return member->get<std::uint64_t>();
  }

  std::map<std::string, std::string> texts(const char* key) const {
    std::map<std::string, std::string> values;
    const Json* member = find(key);
    if (!member) return values;
    if (!member->is_object()) fail(std::string("has a member ") + key + " that is no object");
    for (const auto& [name, value] : member->items()) {
      if (!value.is_string()) fail(std::string("has a value in ") + key + " that is no string");
      values.emplace(name, value.get<std::string>());
    }
    return values;
  }

 private:
  const Json& value_;
  std::string_view name_;
};

// Depth is bounded before the document is built: nlohmann-json destroys values recursively.
constexpr int kMaxDepth = 32;
// Lists and objects in what is kept. Whenever one ends, nlohmann-json goes through all that is kept
// beside it: a document of so many as fit into it would take hours.
constexpr int kMaxContainers = 100;

bool is_start(Json::parse_event_t event) {
  return event == Json::parse_event_t::object_start || event == Json::parse_event_t::array_start;
}

/// What `keeps` is false for is left out. It is told of the beginning and the end of each value,
/// and of keys, and how deep they are.
template <class Keeps>
Json parse_document(ByteView document, std::string_view name, Keeps&& keeps) {
  if (document.size() > kMaxManifestSize)
    throw CorruptError("The " + std::string(name) + " is larger than 4 MiB.");
  const auto text = as_text(document);
  int containers = 0;
  std::array<int, kMaxDepth + 1> containers_before{};  // what began at a depth
  const auto filter = [&](int depth, Json::parse_event_t event, Json& parsed) {
    if (depth > kMaxDepth)
      throw CorruptError("The " + std::string(name) + " is nested too deeply.");
    const bool is_kept = keeps(depth, event, parsed);
    auto& before = containers_before[static_cast<std::size_t>(depth)];
    if (is_start(event)) before = is_kept ? containers++ : containers;
    if (event == Json::parse_event_t::object_end && !is_kept) containers = before;
    if (containers > kMaxContainers)
      throw CorruptError("The " + std::string(name) + " has more parts than that of any image.");
    return is_kept;
  };
  auto value = Json::parse(text.begin(), text.end(), filter, false);
  if (value.is_discarded()) throw CorruptError("The " + std::string(name) + " is not JSON.");
  return value;
}

/// The descriptors of its member `list` are put into `found` and left out, one by one: such lists
/// are long, and as JSON take a multiple of their text in memory.
Json parse_document(ByteView document, std::string_view name, const char* list,
                    std::vector<Descriptor>& found) {
  bool in_list = false;
  const auto take = [&](int depth, Json::parse_event_t event, const Json& parsed) {
    if (depth == 1 && event == Json::parse_event_t::key) {
      in_list = parsed == list;
      if (in_list) found.clear();  // of a member that comes twice the last counts
    }
    if (!in_list || depth != 2) return true;
    if (event == Json::parse_event_t::value || event == Json::parse_event_t::array_start) {
      throw CorruptError("The " + std::string(name) + " has a list " + list +
                         " of what are no objects.");
    }
    if (event != Json::parse_event_t::object_end) return true;
    found.push_back(parse_descriptor(parsed, name));
    return false;
  };
  const auto value = parse_document(document, name, take);
  const Members members(value, name);
  const Json* rest = members.find(list);
  if (!rest || !rest->is_array()) members.fail(std::string("has no list ") + list);
  return value;
}

void check_schema_version(const Members& members) {
  if (members.size("schemaVersion") != 2) members.fail("is not of schema version 2");
}

}  // namespace

Descriptor empty_config() {
  return {std::string(kEmptyType),
          sha256(as_bytes(kEmptyConfigBlob)),
          kEmptyConfigBlob.size(),
          {},
          "e30=",
          {}};
}

Descriptor parse_descriptor(const Json& value, std::string_view name) {
  const Members members(value, name);
  Descriptor descriptor;
  descriptor.media_type = members.required_text("mediaType");
  descriptor.digest = Digest::parse(members.required_text("digest"));
  descriptor.size = members.size("size");
  descriptor.annotations = members.texts("annotations");
  if (members.find("data")) descriptor.data = members.text("data");
  if (const Json* platform = members.find("platform")) {
    const Members inner(*platform, name);
    descriptor.platform =
        Platform{inner.text("architecture"), inner.text("os"), inner.text("variant")};
  }
  descriptor.artifact_type = members.text("artifactType");
  return descriptor;
}

Manifest parse_manifest(ByteView document, std::string_view name) {
  Manifest manifest;
  const Json value = parse_document(document, name, "layers", manifest.layers);
  const Members members(value, name);
  check_schema_version(members);
  const Json* config = members.find("config");
  if (!config) members.fail("has no config");
  // To others it may be the index that it could be, too.
  if (is_index(members.text("mediaType")) || members.find("manifests")) members.fail("is an index");
  manifest.config = parse_descriptor(*config, name);
  manifest.annotations = members.texts("annotations");
  manifest.artifact_type = members.text("artifactType");
  if (const Json* subject = members.find("subject")) {
    manifest.subject = parse_descriptor(*subject, name);
  }
  return manifest;
}

const std::string& artifact_type(const Manifest& manifest) {
  return manifest.artifact_type.empty() ? manifest.config.media_type : manifest.artifact_type;
}

Index parse_index(ByteView document, std::string_view name) {
  Index index;
  const Json value = parse_document(document, name, "manifests", index.manifests);
  check_schema_version(Members(value, name));
  return index;
}

std::string media_type_of(ByteView document, std::string_view name) {
  const auto keeps_members = [](int depth, Json::parse_event_t, const Json&) { return depth < 2; };
  const Json value = parse_document(document, name, keeps_members);
  const Members members(value, name);
  if (auto type = members.text("mediaType"); !type.empty()) return type;
  if (members.find("manifests")) return std::string(kIndexType);
  if (members.find("layers")) return std::string(kManifestType);
  return {};
}

Json to_json(const Descriptor& descriptor) {
  Json value = {{"mediaType", descriptor.media_type},
                {"digest", descriptor.digest.to_string()},
                {"size", descriptor.size}};
  if (!descriptor.annotations.empty()) value["annotations"] = descriptor.annotations;
  if (descriptor.data) value["data"] = *descriptor.data;
  if (descriptor.platform) {
    auto& platform = value["platform"] = {{"architecture", descriptor.platform->architecture},
                                          {"os", descriptor.platform->os}};
    if (!descriptor.platform->variant.empty()) platform["variant"] = descriptor.platform->variant;
  }
  if (!descriptor.artifact_type.empty()) value["artifactType"] = descriptor.artifact_type;
  return value;
}

std::string to_json_text(const Manifest& manifest) {
  Json value = {{"schemaVersion", 2}, {"config", to_json(manifest.config)}};
  auto& layers = value["layers"] = Json::array();
  for (const auto& layer : manifest.layers) layers.push_back(to_json(layer));
  if (!manifest.annotations.empty()) value["annotations"] = manifest.annotations;
  if (!manifest.artifact_type.empty()) value["artifactType"] = manifest.artifact_type;
  if (manifest.subject) value["subject"] = to_json(*manifest.subject);
  return value.dump();
}

bool has_metadata(const Manifest& manifest) {
  if (manifest.layers.empty()) return false;
  const std::string& type = manifest.layers.front().media_type;
  return type == kRootfsType || type == kRootfsZstdType;
}

const Descriptor& metadata_layer(const Manifest& manifest, std::string_view name) {
  if (has_metadata(manifest)) return manifest.layers.front();
  const std::string what = manifest.layers.empty()
                               ? "it has no layers"
                               : "its first layer is of type " + manifest.layers.front().media_type;
  throw Error(EINVAL, std::string(name) + " is not a PuzzleFS image: " + what +
                          ". Build one with \"puzzlefs build\".");
}

std::optional<Descriptor> select_platform(const Index& index, const Platform& wanted) {
  std::optional<Descriptor> for_all;
  for (const auto& entry : index.manifests) {
    if (!entry.platform) {
      if (!for_all) for_all = entry;
    } else if (fits(*entry.platform, wanted)) {
      return entry;
    }
  }
  return for_all;
}

}  // namespace puzzlefs::format
