// What of an image is kept in a cache.
#pragma once

#include <functional>
#include <optional>
#include <vector>

#include "format/bytes.h"
#include "format/metadata.h"
#include "format/oci.h"

namespace puzzlefs::fetch {

using ReadBlob = std::function<std::optional<Bytes>(const format::Digest&)>;

/// Whether the manifest is that of a packed image.
bool is_packed(const format::Manifest& manifest);

/// The chunks of a packed image as they are kept, uncompressed, each once. Throws CorruptError.
std::vector<format::Descriptor> plain_chunks(const format::Metadata& metadata);

/// The blobs that a cache keeps of the image: its layers; of a packed one the metadata and the
/// chunks, both uncompressed. They are found in the metadata, so that without it, as `read` gives
/// it, they are not known. Throws CorruptError.
std::vector<format::Descriptor> kept_blobs(const format::Manifest& manifest, const ReadBlob& read);

}  // namespace puzzlefs::fetch
