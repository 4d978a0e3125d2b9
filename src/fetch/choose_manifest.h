// From what an image's name stands for to the manifest of the image for one platform.
#pragma once

#include <functional>
#include <string>

#include "format/bytes.h"
#include "format/oci.h"
#include "format/platform.h"

namespace puzzlefs::fetch {

/// An index may name further indexes; deeper than this nobody has a use for it.
inline constexpr int kMaxIndexDepth = 2;

/// A manifest or index: its bytes, verified, and what describes them.
struct Document {
  Bytes bytes;
  format::Descriptor descriptor;
};

/// Describes bytes that are known to have that digest.
Document make_document(Bytes bytes, const format::Digest& digest);

/// Gets what an index names, verified. Throws Error.
using DocumentReader = std::function<Document(const format::Descriptor&)>;

/// "The manifest sha256:… of NAME", for messages.
std::string title_of(const format::Digest& digest, const std::string& name);

/// Throws CorruptError for an index within `depth` indexes if that is too deep.
void check_index_depth(int depth, const std::string& title);

/// Follows indexes to the first image that fits `wanted`; what is no index is taken as it is.
/// Throws NotFoundError that lists the platforms there are; CorruptError.
Document choose_manifest(Document document, const std::string& name, const format::Platform& wanted,
                         const DocumentReader& read);

}  // namespace puzzlefs::fetch
