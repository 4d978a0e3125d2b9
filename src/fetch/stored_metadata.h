// The metadata blob as it is stored: as it is, or as one zstd frame.
#pragma once

#include <optional>

#include "fetch/blob_source.h"
#include "fetch/blob_store.h"
#include "fetch/runtime.h"
#include "format/oci.h"

namespace puzzlefs::fetch {

/// What a metadata layer unfolds to: the layer itself unless it is compressed. Throws CorruptError
/// if the layer does not say so in its annotations, or claims to unfold to far more than any
/// metadata does.
format::Descriptor plain_metadata(const format::Descriptor& layer);
/// The fs-verity digest of that, if the layer tells.
std::optional<format::Digest> plain_verity(const format::Descriptor& layer);

/// Gets what a compressed layer unfolds to from `source`; nothing for one that is not compressed.
/// Both must outlive the getter.
ByteGetter unfolding(Runtime& runtime, BlobSource& source, const format::Descriptor& layer);

}  // namespace puzzlefs::fetch
