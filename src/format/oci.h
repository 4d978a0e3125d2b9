// OCI documents: descriptor, manifest and index (OCI image specification 1.1), as far as puzzlefs
// reads and writes them. Parsing checks every length and type; writing gives compact JSON with
// sorted keys, byte for byte what the Rust puzzlefs 0.2 writes.
#pragma once

#include <cstdint>
#include <map>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "format/bytes.h"
#include "format/digest.h"

namespace puzzlefs::format {

inline constexpr std::string_view kManifestType = "application/vnd.oci.image.manifest.v1+json";
inline constexpr std::string_view kIndexType = "application/vnd.oci.image.index.v1+json";
inline constexpr std::string_view kDockerManifestType =
    "application/vnd.docker.distribution.manifest.v2+json";
inline constexpr std::string_view kDockerManifestListType =
    "application/vnd.docker.distribution.manifest.list.v2+json";
inline constexpr std::string_view kEmptyType = "application/vnd.oci.empty.v1+json";
inline constexpr std::string_view kRootfsType = "application/vnd.puzzlefs.image.rootfs.v1";
inline constexpr std::string_view kFiledataType = "application/vnd.puzzlefs.image.filedata.v1";
inline constexpr std::string_view kFiledataZstdType =
    "application/vnd.puzzlefs.image.filedata.v1+zstd";

/// The tag of an index entry.
inline constexpr std::string_view kRefNameAnnotation = "org.opencontainers.image.ref.name";
/// On the metadata layer: the hex fs-verity digest of that blob.
inline constexpr std::string_view kVerityAnnotation =
    "io.puzzlefsoci.puzzlefs.puzzlefs_verity_root_hash";

/// The largest manifest or index that is read or written: what registries accept (distribution and
/// zot: 4 MiB).
inline constexpr std::size_t kMaxManifestSize = 4 << 20;

struct Platform {
  std::string architecture;
  std::string os;

  bool operator==(const Platform&) const = default;
};

/// The platform this program runs on, in Go's terms ("amd64", "linux").
Platform host_platform();

struct Descriptor {
  std::string media_type;
  Digest digest;
  std::uint64_t size = 0;
  std::map<std::string, std::string> annotations;
  std::optional<std::string> data;  // base64, as it stands in the document
  std::optional<Platform> platform;

  bool operator==(const Descriptor&) const = default;
};

/// The empty JSON object as config: its descriptor, and the two bytes of its blob.
Descriptor empty_config();
inline constexpr std::string_view kEmptyConfigBlob = "{}";

/// An image manifest. For an image of ours layers[0] is the metadata, the rest are chunks in stream
/// order.
struct Manifest {
  Descriptor config;
  std::vector<Descriptor> layers;
  std::map<std::string, std::string> annotations;

  bool operator==(const Manifest&) const = default;
};

struct Index {
  std::vector<Descriptor> manifests;
};

/// Each throws CorruptError, saying what is wrong with the document. `name` says which document it
/// is ("manifest sha256:…").
Manifest parse_manifest(ByteView document, std::string_view name);
Index parse_index(ByteView document, std::string_view name);
Descriptor parse_descriptor(const nlohmann::json& value, std::string_view name);

/// The media type of a manifest or index: its `mediaType`, else what its members say; empty if it
/// is neither. Throws CorruptError if it is not JSON.
std::string media_type_of(ByteView document, std::string_view name);

nlohmann::json to_json(const Descriptor& descriptor);
std::string to_json_text(const Manifest& manifest);

/// The manifest's metadata layer. Throws Error (EINVAL) if the image is not a PuzzleFS image,
/// saying what it seems to be.
const Descriptor& metadata_layer(const Manifest& manifest, std::string_view name);

/// The entry of an index for `wanted`, else nothing. Entries without a platform fit every platform.
std::optional<Descriptor> select_platform(const Index& index, const Platform& wanted);

}  // namespace puzzlefs::format
