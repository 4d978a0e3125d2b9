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
#include "format/platform.h"

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
/// A metadata blob of version 4 may be one zstd frame, and what it unfolds to is said by these
/// annotations of its layer: `sha256:<hex>`, the number of bytes, and the hex fs-verity digest.
inline constexpr std::string_view kRootfsZstdType = "application/vnd.puzzlefs.image.rootfs.v1+zstd";
inline constexpr std::string_view kPlainDigestAnnotation = "io.puzzlefs.uncompressed.digest";
inline constexpr std::string_view kPlainSizeAnnotation = "io.puzzlefs.uncompressed.size";
inline constexpr std::string_view kPlainVerityAnnotation = "io.puzzlefs.uncompressed.verity";
/// Of a pack's descriptor: what the metadata say of it as hotSize, if that is not 0, so that it can
/// be asked for together with the metadata.
inline constexpr std::string_view kHotSizeAnnotation = "io.puzzlefs.hot.size";
/// A pack of chunks of version 4.
inline constexpr std::string_view kPackType = "application/vnd.puzzlefs.image.pack.v1";
/// What is attached to an image: a trace, as a blob and as the kind of artifact.
inline constexpr std::string_view kTraceType = "application/vnd.puzzlefs.image.trace.v1";

/// The tag of an index entry.
inline constexpr std::string_view kRefNameAnnotation = "org.opencontainers.image.ref.name";
/// When what has it was made, as parse_time() reads it.
inline constexpr std::string_view kCreatedAnnotation = "org.opencontainers.image.created";
/// On the metadata layer: the hex fs-verity digest of that blob.
inline constexpr std::string_view kVerityAnnotation =
    "io.puzzlefsoci.puzzlefs.puzzlefs_verity_root_hash";

/// The largest manifest or index that is read or written: what registries accept (distribution and
/// zot: 4 MiB).
inline constexpr std::size_t kMaxManifestSize = 4 << 20;

/// Whether documents of this type describe one image, or are lists of such, in either spelling.
constexpr bool is_manifest(std::string_view media_type) {
  return media_type == kManifestType || media_type == kDockerManifestType;
}
constexpr bool is_index(std::string_view media_type) {
  return media_type == kIndexType || media_type == kDockerManifestListType;
}

struct Descriptor {
  std::string media_type;
  Digest digest;
  std::uint64_t size = 0;
  std::map<std::string, std::string> annotations;
  std::optional<std::string> data;  // base64, as it stands in the document
  std::optional<Platform> platform;
  std::string artifact_type;  // of a manifest, in an index; empty if it does not say

  bool operator==(const Descriptor&) const = default;
};

/// The empty JSON object as config: its descriptor, and the two bytes of its blob.
Descriptor empty_config();
inline constexpr std::string_view kEmptyConfigBlob = "{}";

/// An image manifest. For an image of ours layers[0] is the metadata; the rest are chunks in stream
/// order, or packs.
struct Manifest {
  Descriptor config;
  std::vector<Descriptor> layers;
  std::map<std::string, std::string> annotations;
  std::string artifact_type;          // of what is no image; empty in images of ours
  std::optional<Descriptor> subject;  // the manifest that this one says something of

  bool operator==(const Manifest&) const = default;
};

/// What a manifest with a subject is: its artifact type, else its config's type (OCI distribution
/// specification 1.1, "Listing Referrers").
const std::string& artifact_type(const Manifest& manifest);

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

/// Whether it is the manifest of a PuzzleFS image.
bool has_metadata(const Manifest& manifest);
/// The manifest's metadata layer. Throws Error (EINVAL) if the image is not a PuzzleFS image,
/// saying what it seems to be.
const Descriptor& metadata_layer(const Manifest& manifest, std::string_view name);

/// The first entry of an index that fits `wanted`, else the first without a platform, else nothing.
std::optional<Descriptor> select_platform(const Index& index, const Platform& wanted);

}  // namespace puzzlefs::format
