// What makes an image of stored chunks: its metadata and its manifest.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "build/chunk_writer.h"
#include "fetch/layout.h"
#include "format/bytes.h"
#include "format/metadata_writer.h"
#include "format/oci.h"

namespace puzzlefs::build {

/// Writes the blob into the layout. All throw Error.
format::Descriptor write_blob(const fetch::Layout& layout, std::string_view media_type,
                              ByteView bytes);

/// Write the blobs that a manifest names besides chunks or packs, and give its text. Chunks of a
/// compressed build all have the one media type, those stored as they are too: a chunk's form
/// stands in the metadata.
std::string write_chunked_documents(const fetch::Layout& layout,
                                    const format::CapnpMessage& metadata,
                                    const std::vector<StoredChunk>& chunks, bool compress);
/// `metadata` is that of `packs`; it is compressed where that makes it smaller, unless `compress`
/// is false.
std::string write_packed_documents(const fetch::Layout& layout,
                                   const format::CapnpMessage& metadata,
                                   const std::vector<format::Pack>& packs, bool compress);

/// Writes the manifest, whose blobs are all there, and lets `tag` name it once all is on the disk.
/// Warns of a manifest that registries refuse for its size.
format::Descriptor tag_image(const fetch::Layout& layout, const std::string& tag,
                             const std::string& manifest);

}  // namespace puzzlefs::build
